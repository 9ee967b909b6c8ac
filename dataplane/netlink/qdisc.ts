/** Queueing disciplines and their filters: RTM_NEWQDISC, RTM_NEWTFILTER (linux/rtnetlink.h, pkt_sched.h, pkt_cls.h). */
import { AF_UNSPEC } from './bytes.ts'
import { linkName } from './link.ts'
import { MessageBuilder, NLM_F_CREATE, NLM_F_EXCL } from './message.ts'
import type { Netlink } from './socket.ts'

const RTM_NEWQDISC = 36
const RTM_NEWTFILTER = 44
const TC_H_ROOT = 0xffff_ffff
const TC_H_CLSACT = 0xffff_fff1
const CLSACT_HANDLE = 0xffff_0000
/** TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS). */
const CLSACT_INGRESS = 0xffff_fff2
const TCA_KIND = 1
const TCA_OPTIONS = 2
const TCA_BPF_FD = 6
const TCA_BPF_NAME = 7
const TCA_BPF_FLAGS = 8
const TCA_BPF_FLAG_ACT_DIRECT = 1
/** ETH_P_ALL in network order. */
const ALL_PROTOCOLS = 0x0300

/** Gives the interface a root qdisc that has no options. Throws NetlinkError EEXIST when one was given to it before. */
export function addRootQdisc(nl: Netlink, index: number, kind: 'noqueue'): void {
  const message = new MessageBuilder(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL)
  // struct tcmsg { family u8, pad u8, pad u16, ifindex s32, handle u32, parent u32, info u32 }
  message.u8(AF_UNSPEC).u8(0).u16(0).u32(index).u32(0).u32(TC_H_ROOT).u32(0)
  message.attributeString(TCA_KIND, kind)
  nl.request(message, () => `qdisc ${kind} of ${linkName(nl, index)}`)
}

/** Gives the interface the qdisc `clsact`, whose filters see what comes in; it may have it. */
export function addClsact(nl: Netlink, index: number): void {
  const message = new MessageBuilder(RTM_NEWQDISC, NLM_F_CREATE)
  message.u8(AF_UNSPEC).u8(0).u16(0).u32(index).u32(CLSACT_HANDLE).u32(TC_H_CLSACT).u32(0)
  message.attributeString(TCA_KIND, 'clsact')
  nl.request(message, () => `qdisc clsact of ${linkName(nl, index)}`)
}

export interface IngressFilter {
  /** Descriptor of a tc program, whose answer is the verdict. */
  program: number
  name: string
  /** 1 .. 65535; the least is asked first. */
  priority: number
  /** Which of those of that priority. */
  handle: number
}

/** A filter of `clsact` for what comes in, in the place of the one that has its priority and handle. */
export function setIngressFilter(nl: Netlink, index: number, filter: IngressFilter): void {
  const { program, name, priority, handle } = filter
  const message = new MessageBuilder(RTM_NEWTFILTER, NLM_F_CREATE)
  message.u8(AF_UNSPEC).u8(0).u16(0).u32(index).u32(handle).u32(CLSACT_INGRESS)
  message.u32(priority * 0x1_0000 + ALL_PROTOCOLS)
  message.attributeString(TCA_KIND, 'bpf').nest(TCA_OPTIONS, options => {
    options.attributeU32(TCA_BPF_FD, program).attributeString(TCA_BPF_NAME, name)
    options.attributeU32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT)
  })
  nl.request(message, () => `filter ${name} of ${linkName(nl, index)}`)
}
