/** Queueing disciplines: RTM_NEWQDISC (linux/rtnetlink.h, tc-qdisc). */
import { AF_UNSPEC } from './bytes.ts'
import { linkName } from './link.ts'
import { MessageBuilder, NLM_F_CREATE, NLM_F_EXCL } from './message.ts'
import type { Netlink } from './socket.ts'

const RTM_NEWQDISC = 36
const TC_H_ROOT = 0xffff_ffff
const TCA_KIND = 1

/** Gives the interface a root qdisc that has no options. Throws NetlinkError EEXIST when one was given to it before. */
export function addRootQdisc(nl: Netlink, index: number, kind: 'noqueue'): void {
  const message = new MessageBuilder(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL)
  // struct tcmsg { family u8, pad u8, pad u16, ifindex s32, handle u32, parent u32, info u32 }
  message.u8(AF_UNSPEC).u8(0).u16(0).u32(index).u32(0).u32(TC_H_ROOT).u32(0)
  message.attributeString(TCA_KIND, kind)
  nl.request(message, () => `qdisc ${kind} of ${linkName(nl, index)}`)
}
