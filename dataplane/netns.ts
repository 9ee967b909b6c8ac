/** What lies above the packet engine may ask about namespaces and unix peers without the addon. */
import { native } from '../native/native.ts'

/** Device and inode of a network namespace; throws (`code` ENOENT, EINVAL) when `path` is none. */
export function netnsIdentity(path: string): { dev: bigint; ino: bigint } {
  return native.netnsIdentity(path)
}

let own: { dev: bigint; ino: bigint } | undefined

/** Device and inode of the node's own network namespace, which this process never leaves. */
export function ownNetns(): { dev: bigint; ino: bigint } {
  own ??= netnsIdentity('')
  return own
}

/** Whether `name` is an interface of the namespace at `path`. */
export function hasInterface(path: string, name: string): boolean {
  return native.interfaceIndex(path, name) !== 0
}

/** Process, user and group at the other end of a connected unix socket (SO_PEERCRED). */
export function peerCredentials(fd: number): { pid: number; uid: number; gid: number } {
  return native.peerCredentials(fd)
}
