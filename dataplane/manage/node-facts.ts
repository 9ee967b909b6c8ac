/** What the stages know of this node and this kernel: words of the arena's header. Inside a change of the tables. */
import type { XskOffsets } from '../../native/native.ts'
import { gatewayOf, ipWords, parseCidr } from '../addresses.ts'
import { type NodeSpec, vtepMac } from '../control.ts'
import { type Arena, HEADER } from '../memory/arena.ts'
import { macWords } from '../tables/ports.ts'

export interface NodeFacts {
  self: NodeSpec
  vni: number
  vxlanPort: number
  hostPort: number
}

export function writeNodeFacts(arena: Arena, { self, vni, vxlanPort, hostPort }: NodeFacts): void {
  const header = arena.header()
  const vtep = ipWords(self.vtep)
  const mac = macWords(self.vtepMac ?? vtepMac(self.name))
  header[HEADER.VNI] = vni
  header[HEADER.VXLAN_PORT] = vxlanPort
  header[HEADER.VTEP4] = vtep.length === 1 ? vtep[0]! : 0
  for (let w = 0; w < 4; w++) header[HEADER.VTEP6 + w] = vtep.length === 4 ? vtep[w]! : 0
  header[HEADER.VTEP_MAC_HIGH] = mac.high
  header[HEADER.VTEP_MAC_LOW] = mac.low
  header[HEADER.HOST_PORT] = hostPort + 1
  header[HEADER.GATEWAY4] = 0
  header.fill(0, HEADER.GATEWAY6, HEADER.GATEWAY6 + 4)
  for (const cidr of self.podCidrs.map(parseCidr)) {
    const gateway = ipWords(gatewayOf(cidr))
    if (cidr.family === 4) header[HEADER.GATEWAY4] = gateway[0]!
    else header.set(gateway, HEADER.GATEWAY6)
  }
}

/** Where the kernel puts the fields of AF_XDP rings: the same for every socket. */
export function writeXskOffsets(arena: Arena, { rx, tx, fill, completion }: XskOffsets): void {
  const words = [rx, tx, fill, completion].flatMap(at => [
    at.producer,
    at.consumer,
    at.desc,
    at.flags,
  ])
  arena.header().set(words, HEADER.XSK_OFFSETS)
}
