import { beforeEach, describe, expect, test } from 'vitest'
import { meet, PortMappings } from '../../../cni/pods/port-mappings.ts'
import type { Attachment } from '../../../cni/state/state.ts'
import type { PortMapping } from '../../../dataplane/control.ts'
import { FakePlane } from '../fake-plane.ts'

let plane: FakePlane
let ports: PortMappings
beforeEach(() => {
  plane = new FakePlane({ name: 'node-a', vtep: '192.0.2.1', podCidrs: [] }, {})
  ports = new PortMappings(plane)
})

const tcp = (hostPort: number, hostIP?: string): PortMapping => ({
  protocol: 'tcp',
  hostPort,
  containerPort: 80,
  ...(hostIP === undefined ? {} : { hostIP }),
})

function pod(name: string, ...portMappings: PortMapping[]): Attachment {
  return {
    network: 'net',
    containerId: name,
    ifname: 'eth0',
    phase: 'attached',
    netns: `/run/netns/${name}`,
    netnsDev: '4',
    netnsIno: '1',
    kind: 'tun',
    ip4: '10.244.0.2',
    pod: `default/${name}`,
    created: 1,
    ...(portMappings.length === 0 ? {} : { runtime: { portMappings } }),
  }
}

test('the engine is told all mappings at each change, and nothing of other pods', async () => {
  ports.load([pod('a', tcp(80)), pod('none')])
  ports.claim(pod('b', tcp(81)))
  await ports.open('net/b/eth0')
  const a = { ip4: '10.244.0.2', mappings: [tcp(80)] }
  const b = { ip4: '10.244.0.2', mappings: [tcp(81)] }
  expect(plane.ports).toEqual([a, b])
  ports.claim(pod('none'))
  plane.refusePorts = new Error('nft')
  await ports.open('net/none/eth0')
  await ports.close('net/none/eth0')
  plane.refusePorts = undefined
  await ports.close('net/a/eth0')
  expect(plane.ports).toEqual([b])
})

test('what is lost is asked of those that are in force, and tells it of nobody else', async () => {
  plane.lostPorts = ['it is not there']
  ports.claim(pod('a', tcp(80)))
  expect(await ports.lost()).toEqual([])
  await ports.open('net/a/eth0')
  plane.lostPorts = ['it is not there']
  expect(await ports.lost()).toEqual(['it is not there'])
  expect(await ports.lost('net/a/eth0')).toEqual(['it is not there'])
  expect(await ports.lost('net/b/eth0')).toEqual([])
  plane.verifyPortMappings = () => Promise.reject(new Error('no nft'))
  expect(await ports.lost('net/a/eth0')).toEqual(['no nft'])
  await ports.close('net/a/eth0')
  expect(await ports.lost()).toEqual([])
})

describe('a port that is taken', () => {
  test('is refused, both pods are named, and it is free when the other one goes', async () => {
    ports.claim(pod('a', tcp(80)))
    const second = pod('b', tcp(79), tcp(80, '192.0.2.1'))
    expect(() => ports.claim(second)).toThrow(
      expect.objectContaining({
        code: 11,
        message:
          'default/b (net/b/eth0): host port 192.0.2.1:80/tcp is taken: host port *:80/tcp leads to default/a (net/a/eth0)',
      }),
    )
    // Nothing of what was refused is kept.
    ports.claim(pod('c', tcp(79)))
    await ports.close('net/a/eth0')
    await ports.close('net/c/eth0')
    ports.claim(second)
  })

  test('a pod may not ask for it twice itself', () => {
    const twice = pod('a', tcp(80), { ...tcp(80), containerPort: 81 })
    expect(() => ports.claim(twice)).toThrow(expect.objectContaining({ code: 7 }))
  })

  test('nor on an address of a family that it lacks', () => {
    expect(() => ports.claim(pod('a', tcp(80, '::')))).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringMatching(/IPv6.*has none/) }),
    )
  })

  test.each([
    [tcp(80), tcp(80), true],
    [tcp(80), tcp(81), false],
    [tcp(80), { ...tcp(80), protocol: 'udp' as const }, false],
    [tcp(80), tcp(80, '192.0.2.1'), true],
    [tcp(80), tcp(80, '::'), true],
    [tcp(80, '0.0.0.0'), tcp(80, '192.0.2.1'), true],
    [tcp(80, '::'), tcp(80, '192.0.2.1'), false],
    [tcp(80, '192.0.2.1'), tcp(80, '192.0.2.2'), false],
    [tcp(80, '2001:db8::1'), tcp(80, '2001:db8::1'), true],
  ])('%j and %j: %s', (a, b, met) => {
    expect(meet(a, b)).toBe(met)
    expect(meet(b, a)).toBe(met)
  })
})

test('when the engine refuses, a new pod leaves nothing and one in force keeps what it has', async () => {
  ports.claim(pod('a', tcp(80)))
  await ports.open('net/a/eth0')
  plane.refusePorts = new Error('port mappings: nft: spawn nft ENOENT (install nftables, or …)')
  ports.claim(pod('b', tcp(81)))
  await expect(ports.open('net/b/eth0')).rejects.toThrow(
    expect.objectContaining({ code: 5, message: expect.stringMatching(/install nftables/) }),
  )
  await ports.close('net/b/eth0')
  await expect(ports.close('net/a/eth0')).rejects.toThrow(/install nftables/)
  expect(() => ports.claim(pod('c', tcp(80)))).toThrow(/is taken/)
  plane.refusePorts = undefined
  await ports.close('net/a/eth0')
  expect(plane.ports).toEqual([])
})
