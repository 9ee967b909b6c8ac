import { beforeEach, expect, test } from 'vitest'
import { Routes } from '../../../dataplane/manage/routes.ts'
import { Arena, planArena } from '../../../dataplane/memory/arena.ts'

const MOST = 16
let routes: Routes
beforeEach(() => {
  const plan = { workers: 1, smallFrames: 1, largeFrames: 1, xdpSockets: 1, xdpSocketBytes: 4096 }
  routes = new Routes(Arena.create(planArena({ ...plan, ...Routes.bytes(MOST) })), MOST)
})

test('both families: the longest prefix answers, and what is removed no longer does', () => {
  for (const [prefix, hop] of [
    ['0.0.0.0/0', 1],
    ['10.1.0.0/16', 2],
    ['10.1.2.3/32', 3],
    ['::/0', 4],
    ['fd00::5/128', 5],
  ] as const) {
    routes.insert(prefix, hop)
  }
  const answers = (...ips: string[]) => ips.map(ip => routes.lookup(ip))
  expect(answers('192.0.2.1', '10.1.9.9', '10.1.2.3', 'fd00::4', 'fd00::5')).toEqual([
    1, 2, 3, 4, 5,
  ])
  expect(routes.sizes).toEqual({ ipv4: 3, ipv6: 2 })
  expect([...routes.list()].map(({ prefix, hop }) => `${prefix} ${hop}`).sort()).toEqual(
    ['0.0.0.0/0 1', '10.1.0.0/16 2', '10.1.2.3/32 3', '::/0 4', 'fd00::5/128 5'].sort(),
  )
  const before = routes.changes
  routes.remove('10.1.2.3/32')
  routes.remove('::/0')
  expect(routes.changes).toBe(before + 2)
  expect(answers('10.1.2.3', 'fd00::4')).toEqual([2, 0])
})

test('a prefix that is none and a route too many change nothing', () => {
  expect(() => routes.insert('10.0.0.1/8', 1)).toThrow(/bits behind the prefix/)
  for (let i = 0; i < MOST; i++) routes.insert(`10.0.0.${i}/32`, 1)
  expect(() => routes.insert('10.0.1.0/32', 1)).toThrow(RangeError)
  expect(routes.sizes.ipv4).toBe(MOST)
  routes.quiesced()
})
