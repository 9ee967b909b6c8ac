// Flows that connection tracking knows, made by datagrams on a namespace's loopback.
import { execFileSync } from 'node:child_process'
import { afterEach, expect, test } from 'vitest'
import { forgetFlows } from '../../../dataplane/netlink/conntrack.ts'
import { lacking } from '../../harness/skip.ts'
import { addNamespace, removeNamespaces } from '../../native/namespace.ts'

afterEach(removeNamespaces)

const UDP = 17
/** Rules that make the kernel track. */
const TRACK =
  'table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }'
const SEND = `
import socket, sys
for where in sys.argv[1:]:
    address, port = where.rsplit(",", 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, int(port)))
`

test('flows to a port are forgotten in both families, others are not', () => {
  const { path } = addNamespace()
  const inside = (file: string, words: string[], input = '') =>
    execFileSync('nsenter', [`--net=${path}`, '--', file, ...words], { input, encoding: 'utf8' })
  try {
    inside('nft', ['-f', '-'], TRACK)
  } catch (error) {
    lacking(`nft (Debian package nftables): no flow is tracked: ${(error as Error).message}`)
    expect(forgetFlows(path, [{ proto: UDP, port: 4000 }])).toBe(0)
    return
  }
  const send = (...to: string[]) => inside('python3', ['-c', SEND, ...to])
  send('127.0.0.1,4000', '127.0.0.1,4000', '127.0.0.1,4001', '::1,4000')
  expect(forgetFlows(path, [])).toBe(0)
  expect(forgetFlows(path, [{ proto: 6, port: 4000 }])).toBe(0)
  expect(forgetFlows(path, [{ proto: UDP, port: 4000 }])).toBe(3)
  expect(forgetFlows(path, [{ proto: UDP, port: 4000 }])).toBe(0)
  const both = [4000, 4001].map(port => ({ proto: UDP, port }))
  expect(forgetFlows(path, both)).toBe(1)
})
