// The kernel's own VXLAN in place of one node, laid out as Flannel does it, over both underlay families:
//
//   node a: hawser                        node k: no hawser
//   ┌───────────────────────┐             ┌───────────────────────────────────────────────┐
//   │ pods a1 (TUN)         │   underlay  │ flannel.1 ── routing ── cni0 ─┬─ veth ── pod k1 │
//   │  a2 (AF_XDP) a3 (TAP) ├──── veth ───┤ VXLAN id 1,             bridge└─ veth ── pod k2 │
//   │ 10.244.1.0/24         │             │ UDP port 8472        10.244.2.0/24             │
//   └───────────────────────┘             └───────────────────────────────────────────────┘
//
// A route, a neighbour and an fdb entry on flannel.1 stand for node a; none of them is learnt. Pod k3 has
// a VXLAN device of its own, id 100: the network `blue`, that a1, a2 and a3 have net1 in.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { vtepMac } from '../../dataplane/control.ts'
import { connect, ip, Namespaces, nameOf } from '../harness/netns.ts'
import { addInterface, addPod, TestNode, type TestPod } from '../harness/node.ts'
import { must } from '../harness/processes.ts'
import {
  checksumErrors,
  dropsOf,
  type Endpoint,
  expectSound,
  expectTraffic,
  tellLogsOnFailure,
} from './expect.ts'

const VXLAN_PORT = 8472
/** What may be dropped on a sound path: neighbour discovery of the pods' kernels, the first packets to a VTEP. */
const HARMLESS = [
  ...['handled', 'multicast', 'neighbour', 'source-ip', 'nd-malformed'],
  // A stream that speeds up finds out so how much a worker takes that waits for its core.
  'fill-empty',
  // The first words of a pod's kernel, before its port is served.
  'tap-gone',
]
const KERNEL_MAC = '02:6b:65:72:6e:01'

describe.each([
  { underlay: 4, mode: 'xdp', mtu: 1450, vteps: ['192.168.77.1', '192.168.77.2'] },
  { underlay: 4, mode: 'udp', mtu: 1450, vteps: ['192.168.77.1', '192.168.77.2'] },
  { underlay: 6, mode: 'udp', mtu: 1430, vteps: ['fd77::1', 'fd77::2'] },
  { underlay: 6, mode: 'xdp', mtu: 1430, vteps: ['fd77::1', 'fd77::2'] },
  { underlay: 4, mode: 'vxlan', mtu: 1450, vteps: ['192.168.77.1', '192.168.77.2'] },
  { underlay: 6, mode: 'vxlan', mtu: 1430, vteps: ['fd77::1', 'fd77::2'] },
] as const)('IPv$underlay, $mode', ({ underlay, mode, mtu, vteps }) => {
  const namespaces = new Namespaces(`kernel${underlay}${mode}`)
  let node: TestNode | undefined
  let kernel: string
  const pods: TestPod[] = []
  const kernelPods: Endpoint[] = []
  const blue: TestPod[] = []
  let kernelBlue: Endpoint

  beforeAll(async () => {
    const own = await namespaces.add('a')
    kernel = await namespaces.add('k')
    await connect(
      { netns: own, device: 'under0', addresses: ['192.168.77.1/24', 'fd77::1/64'] },
      { netns: kernel, device: 'under0', addresses: ['192.168.77.2/24', 'fd77::2/64'] },
    )
    await makeKernelNode()
    await makeKernelBlue()
    node = new TestNode('node-a', own, {
      cluster: [
        {
          ...{ name: 'node-a', vtep: vteps[0], podCIDRs: ['10.244.1.0/24', 'fd44:0:0:1::/64'] },
          networks: { blue: ['10.60.1.0/24', 'fd60:0:0:1::/64'] },
        },
        {
          ...{ name: 'node-k', vtep: vteps[1], vtepMac: KERNEL_MAC },
          podCIDRs: ['10.244.2.0/24', 'fd44:0:0:2::/64'],
          networks: { blue: ['10.60.2.0/24', 'fd60:0:0:2::/64'] },
        },
      ],
      networks: [{ name: 'blue', vni: 100 }],
      vxlanPort: VXLAN_PORT,
      underlayMode: mode,
    })
    await node.start()
    await node.acquainted()
    pods.push(
      await addPod(namespaces, node, 'a1', 'tun'),
      await addPod(namespaces, node, 'a2', 'xdp'),
      await addPod(namespaces, node, 'a3', 'tap'),
    )
    for (const pod of pods) {
      const config = { name: 'multus-blue', attach: pod.attach, network: 'blue' }
      blue.push(await addInterface(pod, 'net1', config))
    }
  })
  afterAll(async () => {
    await node?.remove()
    await namespaces.removeAll()
  })
  tellLogsOnFailure(() => [node])

  async function makeKernelNode(): Promise<void> {
    const at = (...args: string[]) => ip(kernel, ...args)
    await must('sysctl', ['-q', '-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'], {
      netns: kernel,
    })
    await at('link', 'add', 'cni0', 'mtu', String(mtu), 'type', 'bridge')
    await at('addr', 'add', '10.244.2.1/24', 'dev', 'cni0')
    await at('addr', 'add', 'fd44:0:0:2::1/64', 'dev', 'cni0', 'nodad')
    await at('link', 'set', 'cni0', 'up')
    for (const [k, last] of [2, 3].entries()) {
      const netns = await namespaces.add(`k${k + 1}`)
      const pod = { name: `k${k + 1}`, netns, ip4: `10.244.2.${last}`, ip6: `fd44:0:0:2::${last}` }
      const veth = [
        'type',
        'veth',
        'peer',
        'name',
        'eth0',
        'mtu',
        String(mtu),
        'netns',
        nameOf(netns),
      ]
      await at('link', 'add', `veth${k}`, 'mtu', String(mtu), ...veth)
      await at('link', 'set', `veth${k}`, 'master', 'cni0', 'up')
      await ip(netns, 'addr', 'add', `${pod.ip4}/24`, 'dev', 'eth0')
      await ip(netns, 'addr', 'add', `${pod.ip6}/64`, 'dev', 'eth0', 'nodad')
      await ip(netns, 'link', 'set', 'eth0', 'up')
      await ip(netns, 'route', 'add', 'default', 'via', '10.244.2.1')
      await ip(netns, '-6', 'route', 'add', 'default', 'via', 'fd44:0:0:2::1')
      kernelPods.push(pod)
    }
    const vxlan = ['id', '1', 'dev', 'under0', 'local', vteps[1], 'dstport', String(VXLAN_PORT)]
    await at(
      ...['link', 'add', 'flannel.1', 'address', KERNEL_MAC, 'mtu', String(mtu), 'type', 'vxlan'],
      ...vxlan,
      'nolearning',
    )
    await at('addr', 'add', '10.244.2.0/32', 'dev', 'flannel.1')
    await at('addr', 'add', 'fd44:0:0:2::/128', 'dev', 'flannel.1', 'nodad')
    await at('link', 'set', 'flannel.1', 'up')
    const mac = vtepMac('node-a')
    const permanent = ['lladdr', mac, 'dev', 'flannel.1', 'nud', 'permanent']
    await at('neigh', 'add', '10.244.1.0', ...permanent)
    await at('-6', 'neigh', 'add', 'fd44:0:0:1::', ...permanent)
    await must('bridge', ['fdb', 'append', mac, 'dev', 'flannel.1', 'dst', vteps[0]], {
      netns: kernel,
    })
    await at('route', 'add', '10.244.1.0/24', 'via', '10.244.1.0', 'dev', 'flannel.1', 'onlink')
    await at(
      '-6',
      'route',
      'add',
      'fd44:0:0:1::/64',
      'via',
      'fd44:0:0:1::',
      'dev',
      'flannel.1',
      'onlink',
    )
  }

  /** A VXLAN device that is a pod's: its outer packets stay where it was made. */
  async function makeKernelBlue(): Promise<void> {
    const netns = await namespaces.add('k3')
    const vxlan = ['id', '100', 'dev', 'under0', 'local', vteps[1], 'dstport', String(VXLAN_PORT)]
    await ip(
      kernel,
      ...['link', 'add', 'blue.100', 'address', KERNEL_MAC, 'mtu', String(mtu), 'type', 'vxlan'],
      ...[...vxlan, 'nolearning'],
    )
    await ip(kernel, 'link', 'set', 'blue.100', 'netns', nameOf(netns), 'name', 'net1')
    const mac = vtepMac('node-a')
    await ip(netns, 'link', 'set', 'net1', 'up')
    for (const [address, length, via, cidr] of [
      ['10.60.2.2', '32', '10.60.1.0', '10.60.1.0/24'],
      ['fd60:0:0:2::2', '128', 'fd60:0:0:1::', 'fd60:0:0:1::/64'],
    ] as const) {
      const six = address.includes(':')
      const nodad = six ? ['nodad'] : []
      await ip(netns, 'addr', 'add', `${address}/${length}`, 'dev', 'net1', ...nodad)
      await ip(netns, 'neigh', 'add', via, 'lladdr', mac, 'dev', 'net1', 'nud', 'permanent')
      const family = six ? ['-6'] : []
      await ip(netns, ...family, 'route', 'add', cidr, 'via', via, 'dev', 'net1', 'onlink')
    }
    await must('bridge', ['fdb', 'append', mac, 'dev', 'net1', 'dst', vteps[0]], { netns })
    kernelBlue = { name: 'k3', netns, ip4: '10.60.2.2', ip6: 'fd60:0:0:2::2' }
  }

  test('from hawser to the kernel', async () => {
    await expectTraffic(pods[0]!, kernelPods[0]!, { udpSize: 1400 })
    await expectTraffic(pods[1]!, kernelPods[1]!, { udpSize: 1400 })
    await expectTraffic(pods[2]!, kernelPods[0]!, { udpSize: 1400 })
  })

  test('from the kernel to hawser', async () => {
    await expectTraffic(kernelPods[0]!, pods[0]!, { udpSize: 1400 })
    await expectTraffic(kernelPods[1]!, pods[1]!, { udpSize: 1400 })
    await expectTraffic(kernelPods[0]!, pods[2]!, { udpSize: 1400 })
  })

  test('what came whole stayed whole, and nothing was lost', async () => {
    const { ports } = await expectSound(node!)
    const received = ports.filter(port => port.role === 'underlay')
    const bytes = received.reduce((sum, port) => sum + port.rxBytes, 0)
    const packets = received.reduce((sum, port) => sum + port.rxPackets, 0)
    // On a veth its superframes reach a socket as one datagram; AF_XDP has the kernel cut them.
    if (mode !== 'xdp') expect(bytes / packets).toBeGreaterThan(2 * mtu)
    else expect(bytes / packets).toBeLessThan(mtu)
    const reasons = Object.keys(await dropsOf(node!)).filter(name => !HARMLESS.includes(name))
    expect(reasons).toEqual([])
  })

  test('a second network, both ways, by its own VNI', async () => {
    const little = { tcpBytes: 512 << 10, udpBytes: 64 << 10, udpSize: 1400 }
    await expectTraffic(blue[0]!, kernelBlue, little)
    await expectTraffic(kernelBlue, blue[1]!, little)
    await expectTraffic(kernelBlue, blue[2]!, little)
    await expectTraffic(blue[2]!, kernelBlue, little)
    expect(await dropsOf(node!)).not.toHaveProperty('vxlan-vni')
  })

  test('no kernel found a wrong checksum, and no frame lost its owner', async () => {
    for (const netns of [...pods, ...kernelPods, kernelBlue]
      .map(each => each.netns)
      .concat(kernel)) {
      expect(await checksumErrors(netns)).toEqual({})
    }
    await expectSound(node!)
  })
})
