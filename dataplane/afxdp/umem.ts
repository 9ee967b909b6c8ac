/**
 * The UMEM, all small frames of the arena registered with the kernel once, and the AF_XDP sockets
 * that share it (control plane; the packet path uses rings.ts).
 *
 * XDP_SHARED_UMEM wants a first socket that is bound and stays bound. Ports come and go, so the UMEM
 * has a root socket of its own, on queue 0 of the loopback device, which never receives nor sends.
 * The other sockets inherit copy mode and need-wakeup from it: the kernel refuses flags beside
 * XDP_SHARED_UMEM, and one UMEM is either zero-copy or not. veth has no zero-copy mode.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { native, type XskOffsets, type XskRings, type XskStatistics } from '../../native/native.ts'
import { ERRNO } from '../errno.ts'
import { FRAME_BYTES } from '../limits.ts'
import { type Arena, PAGE } from '../memory/arena.ts'
import {
  RING_HEADER_MAX,
  TX_METADATA_BYTES,
  XDP_COPY,
  XDP_SHARED_UMEM,
  XDP_USE_NEED_WAKEUP,
} from './kernel.ts'
import { ringLayout } from './rings.ts'

export { ringBytes } from './rings.ts'

/** Arena bytes of the root's rings: fill, completion, rx, one page each. */
export const ROOT_RING_BYTES = 3 * PAGE
const ROOT_RING_SIZE = 64
/** How long a queue may stay busy: closing a socket ends in the background of the kernel. */
const BUSY_MS = 2000

function describe(error: number): string {
  const known: Record<number, string> = {
    1: 'EPERM (needs CAP_NET_ADMIN and CAP_NET_RAW)',
    6: 'ENXIO (the device is gone)',
    9: 'EBADF (the UMEM is closed)',
    12: 'ENOMEM (free memory)',
    16: 'EBUSY (the queue belongs to another AF_XDP socket)',
    19: 'ENODEV (no such device in that namespace)',
    22: 'EINVAL (no such queue, or the kernel lacks AF_XDP shared UMEM: 5.10)',
    95: 'EOPNOTSUPP (the device does not support the mode)',
    100: 'ENETDOWN (set the device up)',
    105: 'ENOBUFS (raise the limit of locked memory, RLIMIT_MEMLOCK, or give CAP_IPC_LOCK)',
  }
  return known[error] ?? `errno ${error}`
}

function failure(what: string, error: number): Error {
  return Object.assign(new Error(`${what}: ${describe(error)}`), { errno: error })
}

/** Binds; tries again with growing pauses while the queue is busy. Throws. */
async function bind(
  what: string,
  fd: number,
  ifindex: number,
  queue: number,
  flags: number,
  sharedFd: number,
): Promise<void> {
  const deadline = performance.now() + BUSY_MS
  for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
    const result = native.xskBind(fd, ifindex, queue, flags, sharedFd)
    if (result === 0) return
    if (result !== -ERRNO.EBUSY || performance.now() + pause > deadline)
      throw failure(what, -result)
    await delay(pause)
  }
}

/** Proves that the kernel's ring headers fit what `ringBytes` plans. */
function checkHeaders(offsets: XskOffsets): void {
  for (const ring of [offsets.fill, offsets.completion, offsets.rx, offsets.tx]) {
    if (ring.desc > RING_HEADER_MAX) {
      throw new Error(
        `AF_XDP ring header of ${ring.desc} bytes, at most ${RING_HEADER_MAX} planned`,
      )
    }
  }
}

export class Umem {
  readonly arena: Arena
  /** Root socket: the one whose UMEM is shared. */
  readonly fd: number
  /** Whether a packet may carry XDP_TX_METADATA (kernel 6.8 and newer). */
  readonly txMetadata: boolean
  private readonly rings: XskRings
  private open = true

  private constructor(arena: Arena, fd: number, txMetadata: boolean, rings: XskRings) {
    this.arena = arena
    this.fd = fd
    this.txMetadata = txMetadata
    this.rings = rings
  }

  /**
   * Registers all small frames of `arena`, which this thread has bound. `ringsOffset`:
   * ROOT_RING_BYTES of the rings region. The root sits on `lo` of `netns`: a loopback device
   * carries one UMEM. Throws with cause and remedy; then nothing stays behind.
   */
  static async create(arena: Arena, ringsOffset: number, netns = ''): Promise<Umem> {
    const { small } = arena.layout
    const name = `root socket of the UMEM on lo${netns === '' ? '' : ` in ${netns}`}`
    const rings: XskRings = {
      fill: ringsOffset,
      completion: ringsOffset + PAGE,
      rx: ringsOffset + 2 * PAGE,
      tx: 0,
      fillSize: ROOT_RING_SIZE,
      completionSize: ROOT_RING_SIZE,
      rxSize: ROOT_RING_SIZE,
      txSize: 0,
    }
    const ifindex = native.interfaceIndex(netns, 'lo')
    if (ifindex === 0) throw failure(name, 19)
    const fd = native.xskOpen(netns)
    let mapped = false
    try {
      const register = (metadata: number) =>
        native.xskRegisterUmem(fd, small.offset, small.bytes, FRAME_BYTES, 0, metadata)
      const txMetadata = register(TX_METADATA_BYTES) === 0
      const result = txMetadata ? 0 : register(0)
      if (result !== 0) throw failure(`UMEM of ${small.bytes} bytes`, -result)
      const offsets = native.xskMapRings(fd, rings)
      mapped = true
      checkHeaders(offsets)
      await bind(name, fd, ifindex, 0, XDP_COPY | XDP_USE_NEED_WAKEUP, -1)
      return new Umem(arena, fd, txMetadata, rings)
    } catch (error) {
      if (mapped) native.xskClose(fd, rings)
      else native.close(fd)
      throw error
    }
  }

  /** Closes the root. Sockets that are open keep the UMEM alive; no further one can be opened. */
  close(): void {
    if (!this.open) return
    this.open = false
    native.xskClose(this.fd, this.rings)
  }
}

/** An AF_XDP socket on one queue of one device. The opener maps and binds it; one worker uses its rings. */
export class XdpSocket {
  readonly fd: number
  readonly ringsOffset: number
  /** Entries of each ring. */
  readonly size: number
  /** The same for every socket of a kernel; a worker builds its rings from them. */
  readonly offsets: XskOffsets
  private readonly rings: XskRings
  private isOpen = true

  private constructor(fd: number, ringsOffset: number, size: number, offsets: XskOffsets) {
    this.fd = fd
    this.ringsOffset = ringsOffset
    this.size = size
    this.offsets = offsets
    this.rings = ringLayout(ringsOffset, size)
  }

  /**
   * Opens a socket on `queue` of `ifindex` in `netns`, and maps its rings, `size` entries each, at
   * `ringsOffset` (`ringBytes(size)` bytes of the arena). Waits up to 2 s while an earlier socket of
   * the queue is still closing. Throws with cause and remedy; then nothing stays behind.
   */
  static async open(
    umem: Umem,
    netns: string,
    ifindex: number,
    queue: number,
    ringsOffset: number,
    size: number,
  ): Promise<XdpSocket> {
    const where = netns === '' ? '' : ` in ${netns}`
    const name = `AF_XDP socket on interface ${ifindex} queue ${queue}${where}`
    const rings = ringLayout(ringsOffset, size)
    const fd = native.xskOpen(netns)
    let mapped = false
    try {
      const offsets = native.xskMapRings(fd, rings)
      mapped = true
      checkHeaders(offsets)
      await bind(name, fd, ifindex, queue, XDP_SHARED_UMEM, umem.fd)
      return new XdpSocket(fd, ringsOffset, size, offsets)
    } catch (error) {
      if (mapped) native.xskClose(fd, rings)
      else native.close(fd)
      throw error
    }
  }

  statistics(): XskStatistics {
    return native.xskStatistics(this.fd)
  }

  /**
   * Unmaps the rings and closes. The worker must have let go of the rings. Behind it every frame
   * that was in a ring is free to be used again.
   */
  close(): void {
    if (!this.isOpen) return
    this.isOpen = false
    native.xskClose(this.fd, this.rings)
  }
}
