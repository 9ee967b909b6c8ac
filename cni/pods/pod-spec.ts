/** What the engine is told of an attachment. */
import type { PodPolicy, PodSpec } from '../../dataplane/control.ts'
import { type Attachment, attachmentId } from '../state/state.ts'
import { labelOf } from './label.ts'

export function podSpec(attachment: Attachment, policy?: PodPolicy): PodSpec {
  const { kind, netns, ifname, ip4, ip6, mtu, runtime, overlay } = attachment
  const { bandwidth, mac, further } = runtime ?? {}
  const label = labelOf(attachment)
  return {
    id: attachmentId(attachment),
    kind,
    netns,
    ifname,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(mac === undefined ? {} : { mac }),
    ...(further === undefined ? {} : { further }),
    ...(overlay === undefined ? {} : { network: overlay }),
    ...(label === undefined ? {} : { label }),
    ...(policy === undefined ? {} : { policy }),
  }
}
