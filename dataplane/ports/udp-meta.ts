/** What stands beside each datagram of a burst in the arena (struct Meta of native/addon/udp.cc). */

/** Bytes of a datagram's metadata. */
export const META_BYTES = 32

/** Byte offsets; numbers little-endian, the address in network order. */
export const META = {
  /** 4 or 6. */
  FAMILY: 0,
  TOS: 1,
  /** Received only. */
  TTL: 2,
  /** Received: 1 when the datagram was cut off. Of the first one of a burst that was sent: SENT. */
  FLAGS: 3,
  /** u16: the sender's when received, else the receiver's. */
  PORT: 4,
  /** u16, received only: bytes of each packet in it; 0: it is one. */
  SEGMENT: 6,
  /** 4 or 16 bytes: the sender's when received, else the receiver's. */
  ADDRESS: 8,
} as const

/** What a burst tells of its messages of several packets. */
export const SENT = {
  /** The kernel took one. */
  SEGMENTS_TAKEN: 1,
  /** It wouldn't have one whose packets it took one by one. */
  SEGMENTS_REFUSED: 2,
} as const
