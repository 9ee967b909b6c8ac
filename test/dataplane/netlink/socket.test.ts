import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { addAddress, parseAddress } from '../../../dataplane/netlink/address.ts'
import {
  createBridge,
  getLink,
  listLinks,
  parseLink,
  setLink,
} from '../../../dataplane/netlink/link.ts'
import { MessageBuilder } from '../../../dataplane/netlink/message.ts'
import { parseRoute } from '../../../dataplane/netlink/route.ts'
import {
  Netlink,
  NetlinkError,
  NetlinkEvents,
  RTMGRP_IPV4_IFADDR,
  RTMGRP_IPV4_ROUTE,
  RTMGRP_LINK,
} from '../../../dataplane/netlink/socket.ts'
import { removeNamespaces } from '../../native/namespace.ts'
import { type Place, place } from './kernel.ts'

let here: Place
beforeEach(() => {
  here = place()
})
afterEach(() => {
  here?.nl.close()
  removeNamespaces()
})

describe('requests', () => {
  test('a namespace that is not there, and a socket that is closed', () => {
    expect(() => new Netlink('/run/netns/hwt-none')).toThrow('/run/netns/hwt-none')
    here.nl.close()
    here.nl.close()
    expect(() => listLinks(here.nl)).toThrow(
      `list of interfaces in ${here.namespace.path}: Bad file descriptor (EBADF): the netlink socket is closed`,
    )
  })

  test('a request that the kernel refuses leaves the socket in order', () => {
    for (let i = 0; i < 20; i++) {
      expect(() => setLink(here.nl, 12_345, { up: true })).toThrow(NetlinkError)
      expect(listLinks(here.nl).map(each => each.name)).toEqual(['lo'])
    }
    // A type that there is not.
    expect(() => here.nl.request(new MessageBuilder(9999), () => 'nonsense')).toThrow(
      `nonsense in ${here.namespace.path}: Operation not supported (EOPNOTSUPP)`,
    )
    expect(getLink(here.nl, 'lo')?.index).toBe(1)
  })

  test('an error carries number, code and what the kernel adds', () => {
    createBridge(here.nl, { name: 'br0' })
    let error: unknown
    try {
      setLink(here.nl, getLink(here.nl, 'br0')!.index, { mtu: 1 })
    } catch (caught) {
      error = caught
    }
    expect(error).toMatchObject({ errno: 22, code: 'EINVAL', name: 'NetlinkError' })
    expect((error as NetlinkError).extendedAck).toMatch(/mtu less than device minimum/)
  })

  test('sockets are in the namespace that they were opened for', () => {
    const other = place()
    try {
      createBridge(other.nl, { name: 'there' })
      expect(getLink(here.nl, 'there')).toBeUndefined()
      expect(getLink(other.nl, 'there')).toBeDefined()
    } finally {
      other.nl.close()
    }
  })
})

describe('events', () => {
  test('come in order, and only of the groups that were asked for', () => {
    const groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR
    const events = new NetlinkEvents(here.namespace.path, groups)
    try {
      expect(events.drain()).toEqual([])
      createBridge(here.nl, { name: 'br0' })
      const { index } = getLink(here.nl, 'br0')!
      addAddress(here.nl, { ifindex: index, address: '10.1.0.1', prefix: 24 })
      setLink(here.nl, index, { up: true })
      const got = events.drain(5000)
      const links = got.flatMap(each => parseLink(each) ?? [])
      expect(links[0]).toMatchObject({ name: 'br0', up: false })
      expect(links.at(-1)).toMatchObject({ name: 'br0', up: true })
      expect(got.flatMap(each => parseAddress(each) ?? [])).toMatchObject([{ address: '10.1.0.1' }])
      expect(got.flatMap(each => parseRoute(each) ?? [])).toEqual([])
      expect(events.drain()).toEqual([])
    } finally {
      events.close()
      events.close()
    }
    expect(events.fd).toBe(-1)
    expect(() => events.drain()).toThrow('the netlink socket is closed')
  })

  test('when too many come, that is said once, and then it goes on', () => {
    const events = new NetlinkEvents(here.namespace.path, RTMGRP_IPV4_ROUTE)
    try {
      // The whole of a receive buffer and more.
      createBridge(here.nl, { name: 'br0' })
      const { index } = getLink(here.nl, 'br0')!
      setLink(here.nl, index, { up: true })
      for (let i = 0; i < 2000; i++) {
        addAddress(here.nl, { ifindex: index, address: `10.1.${i >> 8}.${i & 255}`, prefix: 32 })
      }
      expect(() => {
        for (let i = 0; i < 100; i++) events.drain()
      }).toThrow(/No buffer space available \(ENOBUFS\): messages were lost/)
      while (events.drain().length > 0);
      addAddress(here.nl, { ifindex: index, address: '10.2.0.1', prefix: 24 })
      const routes = events.drain(5000).flatMap(each => parseRoute(each) ?? [])
      expect(routes.map(each => each.destination)).toContain('10.2.0.0/24')
    } finally {
      events.close()
    }
  })
})
