/**
 * Attaches XDP programs to devices, by BPF links: the program leaves when the link's descriptor is
 * closed, so also when the process dies.
 */
import { native } from '../../native/native.ts'

const XDP_FLAGS_SKB_MODE = 2
const XDP_FLAGS_DRV_MODE = 4

/** native: in the driver, before a packet buffer is made. generic: behind it, slower, any device. */
export type XdpMode = 'native' | 'generic'

export interface XdpLink {
  /** Closing it detaches the program. */
  readonly linkFd: number
  readonly mode: XdpMode
  /** Why native mode was refused, when `mode` is generic though native was tried. */
  readonly nativeRefused?: string
}

/** Refusals that generic mode would meet as well: another program is there, no rights, no device. */
const FINAL = new Set(['EBUSY', 'EEXIST', 'EPERM', 'EACCES', 'ENOENT', 'EBADF'])

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/** Says what to do where the kernel's errno alone doesn't: veth_xdp_set in drivers/net/veth.c. */
function explain(error: unknown, mode: XdpMode): Error {
  const message = error instanceof Error ? error.message : String(error)
  const hint: Record<string, string> = {
    EBUSY: 'another XDP program is attached; remove it with `ip link set dev NAME xdp off`',
    EEXIST: 'another XDP program is attached in the other mode; remove it first',
    EOPNOTSUPP: 'the driver has no XDP',
    ERANGE: 'the peer has an MTU above 3506',
    ENOSPC: 'the device needs as many rx queues as its peer has tx queues',
    EINVAL: 'the device is gone, or refuses the program',
  }
  const help = hint[codeOf(error)]
  const text = `${mode} ${message}${help === undefined ? '' : `: ${help}`}`
  return Object.assign(new Error(text, { cause: error }), { code: codeOf(error) })
}

/**
 * Attaches `programFd` to `ifindex` in `netns` ('' is the caller's). Without `wanted` native mode
 * comes first, generic mode when the device refuses it. Throws when no mode that was asked for
 * works; the error names the device and carries `code`.
 */
export function attachXdp(
  netns: string,
  programFd: number,
  ifindex: number,
  wanted?: XdpMode,
): XdpLink {
  let refused: Error | undefined
  if (wanted !== 'generic') {
    try {
      const linkFd = native.bpfAttachXdp(netns, programFd, ifindex, XDP_FLAGS_DRV_MODE)
      return { linkFd, mode: 'native' }
    } catch (error) {
      refused = explain(error, 'native')
      if (wanted === 'native' || FINAL.has(codeOf(error))) throw refused
    }
  }
  try {
    const linkFd = native.bpfAttachXdp(netns, programFd, ifindex, XDP_FLAGS_SKB_MODE)
    if (refused === undefined) return { linkFd, mode: 'generic' }
    return { linkFd, mode: 'generic', nativeRefused: refused.message }
  } catch (error) {
    throw explain(error, 'generic')
  }
}
