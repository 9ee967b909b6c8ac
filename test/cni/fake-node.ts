/** A node as the daemon puts it together, on a packet engine without packets. */
import { join } from 'node:path'
import { createLogger } from '../../cni/logger.ts'
import { Pods } from '../../cni/pods.ts'
import { State } from '../../cni/state.ts'
import { Turns } from '../../cni/turns.ts'
import type { Node } from '../../cni/verbs/index.ts'
import type { FakePlane } from './fake-plane.ts'

export interface FakeNode {
  node: Node
  /** To be closed by who made the node. */
  state: State
  /** What it logs, parsed. */
  records: Record<string, unknown>[]
}

/** `turns` with a shorter limit when time has to run out. The state file lies in `folder`. */
export function fakeNode(folder: string, plane: FakePlane, turns = new Turns()): FakeNode {
  const records: Record<string, unknown>[] = []
  const write = (line: string): void => void records.push(JSON.parse(line))
  const log = createLogger('debug', 'node-a', { write })
  const state = new State(join(folder, 'state.db'), 'boot')
  const podCidrs = (): readonly string[] => plane.self.podCidrs
  const pods = new Pods({ plane, state, turns, podCidrs, log })
  const node = { plane, state, pods, turns, podCidrs, outOfSync: () => undefined, log }
  return { node, state, records }
}
