/** The files that a hawser daemon needs in the runner's node, and how the runner is told about it. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { UNDERLAY } from '../../cni/conformance/namespaces.ts'
import type { Options, Report } from '../../cni/conformance/runner.ts'
import type { AttachKind } from '../../dataplane/control.ts'
import { CLI, EXECUTABLE } from '../harness/node.ts'

export interface HawserFiles {
  options: Pick<Options, 'plugin' | 'conflist'> & {
    daemon: { command: string; readySocket: string }
  }
  remove(): void
}

/**
 * `attach`: how pods hang on the node. Pods have addresses of both families; 125 of IPv4. `more`: further
 * keys of the network configuration.
 */
export function hawserFiles(attach: AttachKind, more: object = {}): HawserFiles {
  const folder = mkdtempSync(join(tmpdir(), 'hawser-conformance-test-'))
  const write = (name: string, document: object): string => {
    writeFileSync(join(folder, name), JSON.stringify(document))
    return join(folder, name)
  }
  const socket = join(folder, 'run/cni.sock')
  const [vtep] = UNDERLAY.addresses[0].split('/')
  const podCIDRs = ['10.244.1.0/25', 'fd44:0:0:1::/64']
  const config = write('hawser.json', {
    node: 'node-a',
    cluster: write('cluster.json', { nodes: [{ name: 'node-a', vtep, podCIDRs }] }),
    socket,
    state: join(folder, 'state/state.db'),
    workers: 1,
  })
  const conflist = write('10-hawser.conflist', {
    cniVersion: '1.0.0',
    cniVersions: ['1.0.0', '1.1.0'],
    name: 'hawser',
    plugins: [{ type: 'hawser', attach, socket, ...more }],
  })
  const command = `${process.execPath} ${CLI} daemon --config ${config}`
  return {
    options: { plugin: EXECUTABLE, conflist, daemon: { command, readySocket: socket } },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** Why a case may not be tried here. */
const REASONS = /does not list \d|the interface has no MAC|is not in \//

/** Nothing failed, and what was skipped was skipped for a reason that is known. */
export function expectGreen({ cases }: Pick<Report, 'cases'>): void {
  const told = cases.filter(each => each.verdict === 'failed')
  expect(told.map(({ id, specVersion, why }) => `${id}@${specVersion}: ${why}`)).toEqual([])
  for (const each of cases) if (each.verdict === 'skipped') expect(each.why).toMatch(REASONS)
}
