/** A node as the daemon puts it together, on a packet engine without packets. */

import { join } from 'node:path'
import { createLogger } from '../../cni/base/logger.ts'
import type { Node } from '../../cni/pods/node.ts'
import { Pods } from '../../cni/pods/pods.ts'
import { Turns } from '../../cni/pods/turns.ts'
import { State } from '../../cni/state/state.ts'
import { cidrsIn } from '../../dataplane/control.ts'
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
  const podCidrs = (overlay?: string): readonly string[] => cidrsIn(plane.self, overlay)
  const overlays = (): readonly string[] => Object.keys(plane.self.networks ?? {})
  const parts = { plane, state, turns, podCidrs, overlays, log }
  const pods = new Pods(parts)
  const node = { ...parts, pods, remarks: new Map<string, readonly string[]>() }
  return { node, state, records }
}
