/** What the tests on real devices ask of a path, of a node and of the kernel. */
import { afterEach, expect } from 'vitest'
import type { DataplaneStatus, DropCount } from '../../dataplane/control.ts'
import type { TestNode } from '../harness/node.ts'
import { must } from '../harness/processes.ts'
import { ping, transfer } from '../harness/traffic.ts'

/** A pod of either kind, or one of the kernel's. */
export interface Endpoint {
  name: string
  netns: string
  ip4: string
  ip6: string
}

export interface Traffic {
  tcpBytes?: number
  udpBytes?: number
  /** Bytes of a datagram. */
  udpSize?: number
}

/** Pings and files, TCP and UDP, in both families, from one end to the other; every byte has to arrive. */
export async function expectTraffic(
  from: Endpoint,
  to: Endpoint,
  { tcpBytes = 2 << 20, udpBytes = 128 << 10, udpSize = 1200 }: Traffic = {},
): Promise<void> {
  const done = await Promise.all(
    [to.ip4, to.ip6].map(async address => {
      const { sent, received, errors } = await ping(from.netns, address)
      const tcp = await transfer('tcp', from.netns, to.netns, address, { bytes: tcpBytes })
      const udp = await transfer('udp', from.netns, to.netns, address, { bytes: udpBytes }, udpSize)
      return { address, sent, received, errors, tcp: tcp.intact, udp: udp.intact }
    }),
  )
  for (const each of done) {
    expect(each, `${from.name} to ${to.name}`).toMatchObject({
      ...{ sent: 3, received: 3, errors: [], tcp: true, udp: true },
    })
  }
}

/** Pings only, one of each family. */
export async function expectPing(from: Endpoint, to: Endpoint): Promise<void> {
  for (const address of [to.ip4, to.ip6]) {
    const { received, errors } = await ping(from.netns, address, { count: 1 })
    expect({ address, received, errors }).toEqual({ address, received: 1, errors: [] })
  }
}

/** The node serves, and no frame of it has lost its owner. Returns its status. */
export async function expectSound(node: TestNode): Promise<DataplaneStatus> {
  const status = await node.ask<DataplaneStatus>('status')
  expect(status.ready).toBe(true)
  for (const { worker, running, leaked } of status.workers) {
    expect({ worker, running, leaked }).toEqual({ worker, running: true, leaked: 0 })
  }
  return status
}

/** Drops of a node by reason. */
export async function dropsOf(node: TestNode): Promise<Record<string, number>> {
  const drops = await node.ask<DropCount[]>('drops')
  return Object.fromEntries(drops.map(({ reason, count }) => [reason, count]))
}

/** Packets that a namespace's kernel has refused for their checksum, by protocol; only what is not 0. */
export async function checksumErrors(netns: string): Promise<Record<string, number>> {
  const found: Record<string, number> = {}
  const note = (name: string, value: string | undefined) => {
    if (/Csum/.test(name) && Number(value) !== 0) found[name] = Number(value)
  }
  const lines = (await must('cat', ['/proc/net/snmp'], { netns })).split('\n')
  // Pairs of lines: names, values; the first word is the protocol.
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const names = lines[at]!.split(' ')
    const values = lines[at + 1]!.split(' ')
    for (const [k, name] of names.entries()) note(`${names[0]}${name}`, values[k])
  }
  for (const line of (await must('cat', ['/proc/net/snmp6'], { netns })).split('\n')) {
    const [name, value] = line.trim().split(/\s+/)
    if (name) note(name, value)
  }
  return found
}

/** When a test fails, the daemons' drops and the last lines of their logs are printed behind it. */
export function tellLogsOnFailure(nodes: () => readonly (TestNode | undefined)[]): void {
  afterEach(async ({ task }) => {
    if (task.result?.state !== 'fail') return
    for (const node of nodes()) {
      if (node === undefined) continue
      for (const line of node.log.slice(-15)) console.log(`${node.name}: ${line}`)
      const drops = await dropsOf(node).catch((error: Error) => error.message)
      console.log(`${node.name}: drops ${JSON.stringify(drops)}`)
    }
  })
}
