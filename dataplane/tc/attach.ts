/**
 * Attaches tc programs to devices, for what comes in: by TCX (kernel 6.6), before that as a filter of the
 * qdisc `clsact`. Either stays with the device and costs no descriptor; a later process puts its own program
 * in the place of ours, which it knows by its name, or by the filter's priority and handle.
 */
import { native } from '../../native/native.ts'
import { addClsact, setIngressFilter } from '../netlink/qdisc.ts'
import type { Netlink } from '../netlink/socket.ts'

/** How programs are attached on this kernel. */
export type TcWay = 'tcx' | 'clsact'

/** Of our filter: no other one comes before it. */
const PRIORITY = 1
/** "hw". */
const HANDLE = 0x6877

/**
 * Attaches `program`, which is called `name`, to a device in the namespace of `nl`. Without `way` TCX is
 * tried first. Throws when the kernel takes neither; the error names the device.
 */
export function attachTc(
  nl: Netlink,
  program: number,
  ifindex: number,
  name: string,
  way?: TcWay,
): TcWay {
  if (way !== 'clsact') {
    try {
      native.bpfAttachTcx(nl.netns, program, ifindex, name)
      return 'tcx'
    } catch (error) {
      // Kernels before 6.6 know no such hook.
      if (way === 'tcx' || (error as { code?: string }).code !== 'EINVAL') throw error
    }
  }
  addClsact(nl, ifindex)
  setIngressFilter(nl, ifindex, { program, name, priority: PRIORITY, handle: HANDLE })
  return 'clsact'
}
