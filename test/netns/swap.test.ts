// Another FIB in a running node, under traffic of both families and both kinds of pods:
//
//   node a                    2 queues                    node b
//   pods a1 (TUN) a2 (AF_XDP) ── veth ── pods b1 (TUN) b2 (AF_XDP)
//
// Senders are paced by their receivers and count what they had to send again: one lost packet shows.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DataplaneStatus, FibStatus } from '../../dataplane/control.ts'
import { addPod, CLI, type TestPod } from '../harness/node.ts'
import { run } from '../harness/processes.ts'
import { type TwoNodes, twoNodes } from '../harness/topology.ts'
import { transfer } from '../harness/traffic.ts'
import { tutorialFib } from '../harness/tutorial.ts'
import { dropsOf, expectPing, expectSound, expectTraffic, tellLogsOnFailure } from './expect.ts'

/** Bytes of one transfer, and of the payload of one datagram behind its five bytes of header. */
const BYTES = 1 << 20
const SIZE = 1000
const PACKETS = Math.ceil(BYTES / (SIZE - 5))

const linear = fileURLToPath(new URL('../../dataplane/fib/linear.ts', import.meta.url))
let nodes: TwoNodes | undefined
let folder: string
const pods: Record<string, TestPod> = {}
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-swap-'))
  nodes = await twoNodes('swap', { workers: 2, underlayMode: 'xdp', underlayQueues: 2 })
  for (const [name, attach] of [
    ['a1', 'tun'],
    ['a2', 'xdp'],
    ['b1', 'tun'],
    ['b2', 'xdp'],
  ] as const) {
    const node = name.startsWith('a') ? nodes.a : nodes.b
    pods[name] = await addPod(nodes.namespaces, node, name, attach)
  }
  await Promise.all([nodes.a.acquainted(), nodes.b.acquainted()])
  await expectPing(pods['a1']!, pods['b1']!)
  await expectPing(pods['a2']!, pods['b2']!)
})
afterAll(async () => {
  await nodes?.close()
  rmSync(folder, { recursive: true, force: true })
})
tellLogsOnFailure(() => [nodes?.a, nodes?.b])

/** A file of one's own: the linear FIB of a family, with some members replaced. */
function file(name: string, family: 4 | 6, members = ''): string {
  const path = join(folder, `${name}.ts`)
  const text = `import { linear${family} as inner } from ${JSON.stringify(linear)}
export default { ...inner, name: '${name}', ${members} }
`
  writeFileSync(path, text)
  return path
}

async function swap(fib: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const { a } = nodes!
  const args = [CLI, 'swap', 'fib', fib, '--json', '--socket', a.socket]
  return run(process.execPath, args, { netns: a.netns })
}

test('swaps under traffic lose no packet: the tutorial, a file for IPv6, built-in ones', async () => {
  const mine4 = join(folder, 'mine.ts')
  writeFileSync(mine4, tutorialFib())
  const mine6 = file('mine6', 6)
  let swapping = true
  const flows = [
    ['a1', 'b1', 'ip4'],
    ['b1', 'a1', 'ip6'],
    ['a2', 'b2', 'ip4'],
    ['b2', 'a2', 'ip6'],
  ] as const
  const traffic = flows.map(async ([from, to, family]) => {
    const results: { intact: boolean; sent: number | undefined }[] = []
    do {
      const { netns } = pods[to]!
      const load = { bytes: BYTES }
      const done = await transfer('udp', pods[from]!.netns, netns, pods[to]![family], load, SIZE)
      results.push({ intact: done.intact, sent: done.sentPackets })
    } while (swapping)
    return results
  })
  const names: string[] = []
  try {
    for (const fib of [mine4, mine6, 'dir24_8', 'trie6', 'linear4', mine6, mine4, 'trie6']) {
      const { code, stdout, stderr } = await swap(fib)
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      names.push((JSON.parse(stdout) as FibStatus).name)
    }
  } finally {
    swapping = false
  }
  const results = (await Promise.all(traffic)).flat()
  expect(names).toEqual([
    ...['mine', 'mine6', 'dir24_8', 'trie6', 'linear4', 'mine6', 'mine', 'trie6'],
  ])
  expect(results.length).toBeGreaterThan(flows.length)
  expect(results.filter(({ intact, sent }) => !intact || sent !== PACKETS)).toEqual([])
  for (const node of [nodes!.a, nodes!.b]) await expectSound(node)
})

test('the status says which FIBs are in use', async () => {
  const { fibs } = await nodes!.a.cli<DataplaneStatus>('status')
  expect(fibs).toMatchObject([
    { family: 4, name: 'mine', file: join(folder, 'mine.ts') },
    { family: 6, name: 'trie6' },
  ])
})

test('a FIB that answers wrong is refused with the address, and nothing has changed', async () => {
  const wrong = `reader(memory, limits) {
    const reader = inner.reader(memory, limits)
    return { lookup(a, n, out) {
      reader.lookup(a, n, out)
      for (let i = 0; i < n; i++) if (out[i] !== 0) out[i] ^= 1
    } }
  }`
  const { code, stderr } = await swap(file('wrong', 4, wrong))
  expect(code).toBe(1)
  expect(stderr).toMatch(/wrong\.ts: filled: [0-9.]+ has next hop \d+, the oracle says \d+/)
  const none = await swap('no-such-fib')
  expect([none.code, none.stderr]).toEqual([1, expect.stringContaining('no-such-fib')])
  const { fibs } = await expectSound(nodes!.a)
  expect(fibs.map(each => each.name)).toEqual(['mine', 'trie6'])
  await expectTraffic(pods['a1']!, pods['b2']!)
})

test('one that fails later, on the packet path, costs packets and nothing else', async () => {
  // It answers as it should while it is looked at, which happens in another thread.
  const later = `reader(memory, limits) {
    const reader = inner.reader(memory, limits)
    return { lookup(a, n, out) {
      if (n === 1 && a[0] >>> 24 === 203) throw new Error('not this one')
      reader.lookup(a, n, out)
    } }
  }`
  expect((await swap(file('later', 4, later))).code).toBe(0)
  await run(
    'python3',
    ['-c', 'import socket; socket.socket(2, 2).sendto(b"x", ("203.0.113.9", 9))'],
    {
      netns: pods['a1']!.netns,
    },
  )
  await expectTraffic(pods['a1']!, pods['b1']!)
  const status = await expectSound(nodes!.a)
  expect(status.notes.join()).toMatch(/FIB: 1 lookups failed/)
  expect(await dropsOf(nodes!.a)).toMatchObject({ 'no-route': 1 })
})
