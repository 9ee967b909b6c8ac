/**
 * Messages of the kernel, cut at every length and changed at random: a parser answers, or refuses
 * with EBADMSG, and does nothing else.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addAddress, parseAddress } from '../../../dataplane/netlink/address.ts'
import { NetlinkError } from '../../../dataplane/netlink/error.ts'
import {
  createVeth,
  createVxlan,
  getLink,
  parseLink,
  setLink,
} from '../../../dataplane/netlink/link.ts'
import { type Message, MessageBuilder } from '../../../dataplane/netlink/message.ts'
import {
  appendFdb,
  parseFdb,
  parseNeighbour,
  setNeighbour,
} from '../../../dataplane/netlink/neighbour.ts'
import { addRoute, parseRoute } from '../../../dataplane/netlink/route.ts'
import { removeNamespaces } from '../../native/namespace.ts'
import { type Place, place } from './kernel.ts'

const PARSERS = { parseLink, parseAddress, parseRoute, parseNeighbour, parseFdb }

let here: Place
let messages: Message[]
beforeAll(() => {
  here = place()
  const { nl, namespace } = here
  createVeth(nl, { name: 'va', peer: { name: 'vb' } })
  const { index } = getLink(nl, 'va')!
  setLink(nl, index, { up: true })
  setLink(nl, getLink(nl, 'vb')!.index, { up: true })
  addAddress(nl, { ifindex: index, address: '10.1.0.1', prefix: 24 })
  addAddress(nl, { ifindex: index, address: 'fd01::1', prefix: 64, noDad: true })
  addRoute(nl, { destination: '10.2.0.0/16', gateway: '10.1.0.9', mtu: 1400 })
  namespace.ip(
    'route',
    'add',
    '10.3.0.0/16',
    'nexthop',
    'via',
    '10.1.0.8',
    'nexthop',
    'via',
    '10.1.0.9',
  )
  setNeighbour(nl, {
    ifindex: index,
    address: '10.1.0.9',
    mac: '02:00:00:00:00:09',
    permanent: true,
  })
  createVxlan(nl, { name: 'vx', vni: 7, local: '10.1.0.1' })
  appendFdb(nl, { ifindex: getLink(nl, 'vx')!.index, destination: '10.1.0.9' })
  const dump = (type: number, family: number, zeros: number) => {
    const message = new MessageBuilder(type).u8(family)
    for (let i = 1; i < zeros; i++) message.u8(0)
    return nl.dump(message, () => 'dump')
  }
  // RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, the last one of the bridge family too.
  messages = [
    ...dump(18, 0, 16),
    ...dump(22, 0, 8),
    ...dump(26, 2, 12),
    ...dump(26, 10, 12),
    ...dump(30, 0, 12),
    ...dump(30, 7, 16),
  ]
})
afterAll(() => {
  here?.nl.close()
  removeNamespaces()
})

/** How many parsers answered, and how many refused. */
function parse(message: Message): { answered: number; refused: number } {
  const count = { answered: 0, refused: 0 }
  for (const [name, parser] of Object.entries(PARSERS)) {
    try {
      if (parser(message) !== undefined) count.answered++
    } catch (error) {
      if (!(error instanceof NetlinkError && error.code === 'EBADMSG')) {
        throw new Error(`${name}: type ${message.type}, ${message.payload.length} bytes`, {
          cause: error,
        })
      }
      count.refused++
    }
  }
  return count
}

describe('messages of the kernel', () => {
  test('each is read by one parser at the most', () => {
    expect(messages.length).toBeGreaterThan(15)
    const counts = messages.map(parse)
    expect(counts.every(({ answered, refused }) => answered <= 1 && refused === 0)).toBe(true)
    expect(counts.filter(({ answered }) => answered === 1).length).toBeGreaterThan(15)
  })

  test('cut at every length', () => {
    let refused = 0
    for (const message of messages) {
      for (let n = 0; n < message.payload.length; n++) {
        refused += parse({ ...message, payload: message.payload.subarray(0, n) }).refused
      }
    }
    expect(refused).toBeGreaterThan(messages.length * 8)
  })

  test('with bytes changed, and of another type than they say', () => {
    const types = fc.constantFrom(16, 17, 20, 24, 25, 28, 29, 99)
    const change = fc.record({ at: fc.nat(300), to: fc.integer({ min: 0, max: 255 }) })
    fc.assert(
      fc.property(
        fc.nat(),
        fc.option(types),
        fc.array(change, { maxLength: 5 }),
        (pick, type, changes) => {
          const message = messages[pick % messages.length]!
          const payload = message.payload.slice()
          for (const { at, to } of changes) if (at < payload.length) payload[at] = to
          parse({ ...message, payload, type: type ?? message.type })
        },
      ),
      { numRuns: 3000 },
    )
  })

  test('any bytes', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(16, 20, 24, 28),
        fc.constantFrom(0, 2, 7, 10),
        fc.uint8Array({ minLength: 1, maxLength: 120 }),
        (type, family, payload) => {
          payload[0] = family
          parse({ type, flags: 0, sequence: 0, payload })
        },
      ),
      { numRuns: 2000 },
    )
  })
})
