/**
 * What a pod's interface, and the node's end of a veth, say of themselves: their alias (ip-link(8))
 * tells who made them and for whom. It is the second place, after the state file, that knows whose
 * address is whose; state-rebuild.ts reads it when the first is lost.
 *
 *     hawser/NODE/OVERLAY/NETWORK/CONTAINER/INTERFACE/IPV4/IPV6
 *
 * NODE is the inode of the node's own network namespace: two nodes on one machine, as in tests, know
 * their pods apart. OVERLAY, IPV4 and IPV6 may be empty. No part can hold a slash. A pod that may
 * change its interface may write there what it likes.
 */

import { ALIAS_BYTES } from '../../dataplane/kernel.ts'
import { ownNetns } from '../../dataplane/netns.ts'
import { parseAddress } from '../netip/cidr.ts'
import { ifnameProblem, nameProblem } from '../spec/names.ts'
import type { Attachment, AttachmentKey } from '../state/state.ts'

const OWNER = 'hawser/'
const PARTS = 8

export type Labelled = AttachmentKey & Pick<Attachment, 'ip4' | 'ip6' | 'overlay'>

/** The label of an attachment; undefined when it is too long for an alias. */
export function labelOf(attachment: Labelled): string | undefined {
  const { network, containerId, ifname, ip4 = '', ip6 = '', overlay = '' } = attachment
  const text = `${ourLabels()}${[overlay, network, containerId, ifname, ip4, ip6].join('/')}`
  return Buffer.byteLength(text) <= ALIAS_BYTES ? text : undefined
}

/** What labels of this node begin with. */
export function ourLabels(): string {
  return `${OWNER}${ownNetns().ino}/`
}

/** What a label that begins with `ourLabels` says, or why it can't be one of ours. */
export function parseLabel(text: string): Labelled | { problem: string } {
  const parts = text.split('/')
  if (parts.length !== PARTS) return { problem: 'not as labels are written' }
  const [, , overlay, network, containerId, ifname, ip4, ip6] = parts as string[] & { length: 8 }
  const key = { network: network!, containerId: containerId!, ifname: ifname! }
  const names = [key.network, key.containerId, ...(overlay === '' ? [] : [overlay!])]
  const problem = names.map(nameProblem).find(each => each !== undefined) ?? ifnameProblem(ifname!)
  if (problem !== undefined) return { problem }
  for (const [family, address] of [[4, ip4!] as const, [6, ip6!] as const]) {
    if (address === '') continue
    const parsed = parseAddress(address)
    if (!parsed.ok || parsed.value.family !== family || parsed.value.text !== address) {
      return { problem: `no IPv${family} address in its canonical form` }
    }
  }
  if (ip4 === '' && ip6 === '') return { problem: 'no address' }
  return {
    ...key,
    ...(overlay === '' ? {} : { overlay: overlay! }),
    ...(ip4 === '' ? {} : { ip4: ip4! }),
    ...(ip6 === '' ? {} : { ip6: ip6! }),
  }
}
