/** What the kernel and `ip -json` say of a namespace, for tests that compare the two. */
import { Netlink } from '../../../dataplane/netlink/socket.ts'
import { native } from '../../../native/native.ts'
import { addNamespace, type Namespace } from '../../native/namespace.ts'

export interface Place {
  namespace: Namespace
  nl: Netlink
  /** `ip -json -details …` inside. */
  json(...args: string[]): Record<string, unknown>[]
}

/** A namespace, with IPv6 on devices made later, and a netlink socket in it. */
export function place(): Place {
  const namespace = addNamespace()
  native.sysctlWrite(namespace.path, 'ipv6/conf/default/disable_ipv6', '0')
  return {
    namespace,
    nl: new Netlink(namespace.path),
    json: (...args) => JSON.parse(namespace.ip('-json', '-details', ...args) || '[]'),
  }
}
