// Packets in, packets out and counters, byte for byte: every folder beside this file that holds a counters.json.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { DROPS } from '../../dataplane/drops.ts'
import { testEngine } from '../harness/engine.ts'
import {
  countersOf,
  filesOf,
  PORTS,
  type PortName,
  portCount,
  printed,
  readCase,
  runCase,
} from './case.ts'
import { GENERATED } from './generate.ts'

const here = import.meta.dirname
const names = readdirSync(here, { withFileTypes: true })
  .filter(entry => entry.isDirectory() && existsSync(join(here, entry.name, 'counters.json')))
  .map(entry => entry.name)

/** Reasons that no packet brings about on a port in memory: the kernel, a neighbour or a policy is needed (test/dataplane/stages/policy.test.ts). */
const OF_REAL_PORTS = [
  ...['none', 'neighbour', 'tx-full', 'tx-error', 'port-down'],
  ...['fill-empty', 'rx-full', 'rx-long', 'descriptor'],
  ...['vxlan-peer', 'vxlan-device', 'tap-gone'],
  ...['policy-egress', 'policy-ingress', 'policy-fragment', 'policy-icmp', 'dns-busy', 'half-open'],
]

describe('packets in, packets out and counters', () => {
  for (const name of names) {
    test(name, () => {
      const one = readCase(join(here, name))
      expect(one.in.length).toBeGreaterThan(0)
      const world = testEngine(one.engine)
      const out = runCase(world, one)
      for (const port of PORTS) {
        const lines = (packets: readonly Parameters<typeof printed>[1][]) =>
          packets.map(packet => printed(port, packet))
        expect(lines(out[port]), `out-${port}`).toEqual(lines(one.out[port] ?? []))
        expect(portCount(world, port, 'TX_PACKETS')).toBe(out[port].length)
      }
      expect(world.drops()).toEqual(one.drops)
      expect(countersOf(world)).toEqual(one.counters)
      expect(world.leaked()).toBe(0)
      const dropped = Object.values(one.drops).reduce((sum, n) => sum + n, 0)
      const byPort = (port: PortName) => portCount(world, port, 'RX_DROPS')
      expect(PORTS.reduce((sum, port) => sum + byPort(port), 0)).toBe(dropped)
    })
  }

  test('every reason that packets can bring about has a case', () => {
    const seen = new Set(names.flatMap(name => Object.keys(readCase(join(here, name)).drops)))
    const missing = DROPS.map(([name]) => name as string).filter(name => !seen.has(name))
    expect(missing.sort()).toEqual(OF_REAL_PORTS.sort())
  })

  test('the files are those that generate.ts writes', () => {
    for (const [name, one] of Object.entries(GENERATED)) {
      const files = filesOf(one)
      expect(readdirSync(join(here, name)).sort(), name).toEqual([...files.keys()].sort())
      for (const [file, bytes] of files) {
        const there = readFileSync(join(here, name, file))
        expect(there.equals(bytes), `${name}/${file}`).toBe(true)
      }
    }
  })
})
