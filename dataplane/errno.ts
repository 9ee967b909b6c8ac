/** Linux error numbers that the engine tells apart (asm-generic/errno-base.h, errno.h); burst functions return them negative. */
export const ERRNO = {
  EIO: 5,
  ENXIO: 6,
  EBUSY: 16,
  ENODEV: 19,
  EINVAL: 22,
  EBADFD: 77,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
} as const
