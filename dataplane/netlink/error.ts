import { getSystemErrorMap } from 'node:util'

// include/uapi/asm-generic/errno-base.h and errno.h: those that rtnetlink answers with.
const ERRORS: ReadonlyMap<number, readonly [code: string, text: string]> = new Map([
  [1, ['EPERM', 'Operation not permitted']],
  [2, ['ENOENT', 'No such file or directory']],
  [3, ['ESRCH', 'No such process']],
  [4, ['EINTR', 'Interrupted system call']],
  [6, ['ENXIO', 'No such device or address']],
  [9, ['EBADF', 'Bad file descriptor']],
  [11, ['EAGAIN', 'Resource temporarily unavailable']],
  [12, ['ENOMEM', 'Cannot allocate memory']],
  [13, ['EACCES', 'Permission denied']],
  [16, ['EBUSY', 'Device or resource busy']],
  [17, ['EEXIST', 'File exists']],
  [19, ['ENODEV', 'No such device']],
  [22, ['EINVAL', 'Invalid argument']],
  [28, ['ENOSPC', 'No space left on device']],
  [34, ['ERANGE', 'Numerical result out of range']],
  [40, ['ELOOP', 'Too many levels of symbolic links']],
  [74, ['EBADMSG', 'Bad message']],
  [90, ['EMSGSIZE', 'Message too long']],
  [95, ['EOPNOTSUPP', 'Operation not supported']],
  [97, ['EAFNOSUPPORT', 'Address family not supported by protocol']],
  [98, ['EADDRINUSE', 'Address already in use']],
  [99, ['EADDRNOTAVAIL', 'Cannot assign requested address']],
  [100, ['ENETDOWN', 'Network is down']],
  [101, ['ENETUNREACH', 'Network is unreachable']],
  [105, ['ENOBUFS', 'No buffer space available']],
  [110, ['ETIMEDOUT', 'Connection timed out']],
  [113, ['EHOSTUNREACH', 'No route to host']],
])

export const ENOENT = 2
export const EINTR = 4
export const EBADF = 9
export const ENODEV = 19
export const EBADMSG = 74
export const EMSGSIZE = 90
export const ETIMEDOUT = 110

/** What to do about an error to which the kernel added nothing. */
const REMEDIES: Readonly<Record<string, string>> = {
  EPERM: 'needs CAP_NET_ADMIN',
  ENOBUFS: 'messages were lost: read the whole state again',
}

/**
 * A request that the kernel refused, or bytes that are no netlink message (`code` EBADMSG). The
 * message reads `add route 10.1.0.0/24 via hawser0 in /run/netns/x: File exists (EEXIST): <extack>`.
 */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  /** Positive, as in errno.h. */
  readonly errno: number
  /** `EEXIST`. */
  readonly code: string
  /** The kernel's extended acknowledgement; '' if it gave none. */
  readonly extendedAck: string

  /** `what`: object and action, with the namespace. `errno` is positive. */
  constructor(what: string, errno: number, extendedAck = '') {
    const [code, text] = errnoText(errno)
    const detail = extendedAck || REMEDIES[code]
    super(`${what}: ${text} (${code})${detail ? `: ${detail}` : ''}`)
    this.errno = errno
    this.code = code
    this.extendedAck = extendedAck
  }
}

function errnoText(errno: number): readonly [code: string, text: string] {
  return (
    ERRORS.get(errno) ?? getSystemErrorMap().get(-errno) ?? [`E${errno}`, `Unknown error ${errno}`]
  )
}

/** Bytes that are not what they say they are. */
export function malformed(what: string, why: string): NetlinkError {
  return new NetlinkError(what, EBADMSG, why)
}
