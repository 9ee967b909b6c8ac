/** The numbers by which one namespace knows others, beside what `ip` says of them. */
import { afterEach, expect, test } from 'vitest'
import { createVeth, getLink } from '../../../dataplane/netlink/link.ts'
import { namespaceId } from '../../../dataplane/netlink/nsid.ts'
import { Netlink } from '../../../dataplane/netlink/socket.ts'
import { addNamespace, removeNamespaces } from '../../native/namespace.ts'

const sockets: Netlink[] = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close()
  removeNamespaces()
})

test('a veth names the namespace of its other end as the kernel numbers it', () => {
  const [here, one, two] = [addNamespace(), addNamespace(), addNamespace()]
  const nl = new Netlink(here.path)
  sockets.push(nl)
  expect([one, two].map(each => namespaceId(nl, each.path))).toEqual([undefined, undefined])
  for (const [k, { path }] of [one, two].entries()) {
    createVeth(nl, { name: `v${k}`, peer: { name: 'eth0', netnsPath: path } })
    expect(namespaceId(nl, path)).toBe(getLink(nl, `v${k}`)!.linkNetnsid)
  }
  expect(namespaceId(nl, one.path)).not.toBe(namespaceId(nl, two.path))
})

test('what is no namespace is refused', () => {
  const nl = new Netlink(addNamespace().path)
  sockets.push(nl)
  expect(() => namespaceId(nl, '/etc/hostname')).toThrow(/\/etc\/hostname/)
  expect(() => namespaceId(nl, '/nowhere')).toThrow(/\/nowhere/)
})
