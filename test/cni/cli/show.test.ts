import { expect, test } from 'vitest'
import { printable, table } from '../../../cni/base/table.ts'
import {
  showDrops,
  showPods,
  showReadiness,
  showRoutes,
  showStatus,
  showSwap,
} from '../../../cni/cli/show.ts'
import type { PolicyStatus } from '../../../cni/enforce/keeper.ts'
import { POD, STATUS } from '../fake-plane.ts'

test('columns are as wide as their widest cell, numbers stand right', () => {
  expect(
    table(
      ['NAME', 'N'],
      [
        ['a', 1],
        ['longer', 1000],
      ],
    ),
  ).toBe(['NAME       N', 'a          1', 'longer  1000'].join('\n'))
  expect(
    table(
      ['A', 'B'],
      [
        [undefined, 'x'],
        ['', 'y'],
      ],
    ),
  ).toBe(['A  B', '-  x', '-  y'].join('\n'))
})

test('control characters of foreign names do not reach the terminal', () => {
  expect(printable('a\u001b[31mb\n\u202e')).toBe('a?[31mb??')
  const shown = showPods([{ ...POD, id: 'x\u001b]0;y\u0007' }])
  expect(shown).not.toContain('\u001b')
  expect(shown).not.toContain('\u0007')
})

test('status shows facts, notes, workers and ports', () => {
  const text = showStatus(STATUS)
  expect(text).toMatch(/^node {6}node-a$/m)
  expect(text).toMatch(/^ready {5}yes$/m)
  expect(text).toMatch(/^underlay {2}eth0 192\.0\.2\.11, xdp \(native\): as configured$/m)
  expect(text).toMatch(/^overlay {3}VNI 7, UDP port 4789, pod MTU 1450$/m)
  expect(text).toMatch(/^FIB IPv4 {2}dir24_8, 48 MiB$/m)
  expect(text).toMatch(/^FIB IPv6 {2}mine \(\/opt\/fibs\/mine\.ts\), 8192 B$/m)
  expect(text).toMatch(/^note {6}offload was switched off$/m)
  expect(text).toMatch(/^ +0 {2}asleep +12345 /m)
  expect(text).toMatch(/^ +1 {2}tun +pod +net\/abc\/eth0 +10 +1000 /m)
})

test('status shows what is wrong and since when, and what has been mended', () => {
  const since = '2026-01-01T00:00:00.000Z'
  const text = showStatus({
    ...STATUS,
    troubles: [
      { what: 'device eth0 is down', since, blocking: true },
      { what: 'node-b is not reached', since, blocking: false },
    ],
    mended: [
      { what: 'nft', count: 3 },
      { what: 'underlay', count: 1 },
    ],
  })
  expect(text).toMatch(/^not ready {1}device eth0 is down \(since 2026-01-01T00:00:00\.000Z\)$/m)
  expect(text).toMatch(/^trouble {3}node-b is not reached \(since 2026-01-01T00:00:00\.000Z\)$/m)
  expect(text).toMatch(/^mended {4}nft 3, underlay 1$/m)
})

test('status shows the networks beside the own one', () => {
  const blue = { name: 'blue', vni: 100, podCidrs: ['10.60.0.0/24', 'fd60::/64'], pods: 3 }
  const text = showStatus({ ...STATUS, networks: [blue, { ...blue, name: 'red', vni: 0 }] })
  expect(text).toMatch(/^network {3}blue, VNI 100, 10\.60\.0\.0\/24, fd60::\/64, 3 pods$/m)
  expect(text).toMatch(/^network {3}red, over, 3 pods$/m)
})

test('readiness is a word, or a line for each cause', () => {
  expect(showReadiness({ ready: true, causes: [] })).toBe('ready')
  expect(showReadiness({ ready: false, causes: ['no frame', 'a\u001b[31mb'] })).toBe(
    'not ready: no frame\nnot ready: a?[31mb',
  )
})

test('pods and routes are one line each, or a sentence when there are none', () => {
  expect(showPods([{ ...POD, pod: 'default/web' }]).split('\n')[1]).toMatch(
    /^default\/web {2}net\/abc\/eth0 {2}tun +10\.244\.0\.2 +- +- +1450 /,
  )
  expect(
    showRoutes([
      { prefix: '10.244.1.0/24', kind: 'vxlan', via: 'node-b 192.0.2.12', mtu: 1450 },
      { prefix: '10.60.1.0/24', kind: 'reject', via: '', mtu: 1450, network: 'blue' },
    ]).split('\n'),
  ).toEqual([
    'PREFIX         KIND    VIA                 MTU  OVERLAY',
    '10.244.1.0/24  vxlan   node-b 192.0.2.12  1450  -',
    '10.60.1.0/24   reject  -                  1450  blue',
  ])
  expect(showPods([])).toBe('no pods are attached')
  const made = { network: 'lan', ifname: 'net1', plugins: ['macvlan', 'sbr'], ips: ['10.9.0.2/24'] }
  const begun = { ...made, ifname: 'net2', ips: [] }
  expect(
    showPods([POD, { ...POD, secondaries: [made, begun] }])
      .split('\n')
      .slice(4),
  ).toEqual([
    'POD           FURTHER INTERFACE  NETWORK  PLUGINS      ADDRESSES',
    'net/abc/eth0  net1               lan      macvlan sbr  10.9.0.2/24',
    'net/abc/eth0  net2               lan      macvlan sbr  -',
  ])
  expect(showRoutes([])).toBe('there are no routes')
})

test('drops show what happened, the most frequent first', () => {
  const drop = (reason: string, count: number) => ({
    reason,
    text: `${reason}!`,
    count,
    workers: [count, 0],
  })
  const text = showDrops([drop('ttl', 3), drop('mtu', 0), drop('no-route', 50)])
  expect(text).toBe(
    'COUNT  REASON    BY WORKER  MEANING\n   50  no-route  50 0       no-route!\n    3  ttl       3 0        ttl!',
  )
  expect(showDrops([drop('mtu', 0)])).toBe('nothing was dropped')
})

test('a swap says what is in use now', () => {
  expect(showSwap({ family: 6, name: 'mine', file: '/m.ts', routes: 3, bytes: 3 << 20 })).toBe(
    'IPv6 by mine (/m.ts), 3 MiB, 3 routes',
  )
})

test('status says which policy is in force, and why that is not what the files say', () => {
  const since = '2026-01-02'
  const policy = { folder: '/p', policies: 3, programs: 2, addresses: 9, mended: 0, since }
  const line = (more: Partial<PolicyStatus>): string | undefined =>
    /^policy .*$/m.exec(showStatus({ ...STATUS, policy: { ...policy, ...more } }))?.[0]
  expect(line({})).toBe(
    'policy    /p: 3 policies, 2 programs, 9 addresses of pods, since 2026-01-02',
  )
  expect(line({ problem: { what: '/p/a.yaml:3: no', since: '2026-01-03' } })).toMatch(
    /since 2026-01-02; not as it is now: \/p\/a\.yaml:3: no$/,
  )
  expect(line({ mended: 2 })).toMatch(/2026-01-02; 2 times otherwise in the engine, and mended$/)
  const names = {
    ...{ addresses: 4, learned: 9, unasked: 0, malformed: 0, unfollowed: 0, busy: 0 },
    refused: { '256 names of a pod': 3, '128 addresses of a name': 0 },
  }
  expect(line({ names })).toMatch(
    /9 addresses of pods, 4 learned addresses of names, 3 beyond 256 names of a pod, since/,
  )
  expect(showStatus(STATUS)).not.toMatch(/^policy/m)
})
