import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  COOLING_MS,
  exhausted,
  LOW_ADDRESSES,
  lowNotes,
  pick,
  record,
  reserve,
} from '../../../cni/ipam/allocator.ts'
import { poolsOf } from '../../../cni/ipam/ranges.ts'
import {
  type Address,
  addressText,
  cidrsOf,
  gateway,
  parseAddress,
} from '../../../cni/netip/cidr.ts'
import { CniError } from '../../../cni/spec/errors.ts'
import { type Attachment, State } from '../../../cni/state/state.ts'
import { gatewayOf, parseCidr } from '../../../dataplane/addresses.ts'

let folder = ''
let state: State
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-ipam-'))
  state = new State(join(folder, 'state.db'), 'boot')
})
afterEach(() => {
  state.close()
  rmSync(folder, { recursive: true, force: true })
})

function reopen(): void {
  state.close()
  state = new State(join(folder, 'state.db'), 'boot')
}

function wanted(containerId: string): Omit<Attachment, 'phase' | 'created' | 'ip4' | 'ip6'> {
  const netns = { netns: '/run/netns/x', netnsDev: '4', netnsIno: '1' }
  return { network: 'n', containerId, ifname: 'eth0', ...netns, kind: 'tun', pod: '' }
}

function address(text: string): Address {
  const parsed = parseAddress(text)
  if (!parsed.ok) throw new Error(parsed.cause)
  return parsed.value
}

/** Reserves until it fails; the IPv4 or IPv6 addresses in order. */
function all(cidrs: string[], now = 0): string[] {
  const found: string[] = []
  for (let k = 0; ; k++) {
    try {
      const { ip4, ip6 } = reserve(state, poolsOf(cidrs), [], wanted(`c${k}`), now)
      found.push([ip4, ip6].filter(ip => ip !== undefined).join(' '))
    } catch (error) {
      expect(error).toBeInstanceOf(CniError)
      return found
    }
  }
}

describe('what is given out', () => {
  test('every address of a range but network, gateway and broadcast', () => {
    expect(all(['10.0.0.0/29'])).toEqual([2, 3, 4, 5, 6].map(n => `10.0.0.${n}`))
  })

  test('the smallest ranges have one IPv4 and two IPv6 addresses', () => {
    expect(all(['10.0.0.4/30'])).toEqual(['10.0.0.6'])
    expect(state.get(wanted('c0'))?.ip4).toBe('10.0.0.6')
  })

  test('IPv6 has no broadcast', () => {
    expect(all(['fd00::/126'])).toEqual(['fd00::2', 'fd00::3'])
  })

  test('the gateway is the one that the packet engine answers for', () => {
    for (const cidr of ['10.244.3.0/24', 'fd00:10:244:3::/64', '10.0.0.128/25']) {
      expect(cidrsOf([cidr]).map(gateway)).toEqual([gatewayOf(parseCidr(cidr))])
    }
  })

  test('both families or none', () => {
    expect(all(['10.0.0.0/24', 'fd00::/126'])).toEqual(['10.0.0.2 fd00::2', '10.0.0.3 fd00::3'])
    const pools = poolsOf(['10.0.0.0/24', 'fd00::/126'])
    expect(state.addressUse(4).taken.size).toBe(2)
    expect(state.addressUse(4).cursor).toBe(0x0a000003n)
    expect(() => reserve(state, pools, [], wanted('more'))).toThrow(
      expect.objectContaining({ code: 11, message: 'no IPv6 address is left in fd00::/126' }),
    )
    expect(exhausted(state, pools)).toEqual(['fd00::/126'])
  })
})

describe('an address comes back late', () => {
  const pools = poolsOf(['10.0.0.0/29'])
  const take = (id: string, now: number): string | undefined =>
    reserve(state, pools, [], wanted(id), now).ip4

  test('the search goes on behind the last one, also after a restart', () => {
    take('a', 0)
    take('b', 0)
    state.release(wanted('a'), -COOLING_MS)
    reopen()
    expect(take('c', 0)).toBe('10.0.0.4')
    expect([take('d', 0), take('e', 0), take('f', 0)]).toEqual(['10.0.0.5', '10.0.0.6', '10.0.0.2'])
  })

  test('one that cools down is passed over until it has', () => {
    for (const id of ['a', 'b', 'c', 'd', 'e']) take(id, 0)
    state.release(wanted('a'), 1000)
    state.release(wanted('d'), 500)
    expect(exhausted(state, pools)).toEqual([])
    expect(take('f', 500 + COOLING_MS)).toBe('10.0.0.5')
    expect(take('g', 1000 + COOLING_MS)).toBe('10.0.0.2')
  })

  test('when nothing else is left, the one that has rested longest', () => {
    for (const id of ['a', 'b', 'c', 'd', 'e']) take(id, 0)
    state.release(wanted('c'), 10)
    state.release(wanted('b'), 20)
    expect([take('f', 30), take('g', 30)]).toEqual(['10.0.0.4', '10.0.0.3'])
    expect(() => take('h', 30)).toThrow(CniError)
  })
})

test('another pod CIDR of the node leaves old addresses alone and starts anew', () => {
  reserve(state, poolsOf(['10.0.0.0/29']), [], wanted('a'))
  expect(reserve(state, poolsOf(['10.9.0.0/29']), [], wanted('b')).ip4).toBe('10.9.0.2')
  expect(state.list().map(each => each.ip4)).toEqual(['10.0.0.2', '10.9.0.2'])
})

test('a range that is huge is not searched through', () => {
  const [first, second] = [0, 1].map(
    k => reserve(state, poolsOf(['fd00::/16']), [], wanted(`c${k}`)).ip6,
  )
  expect([first, second]).toEqual(['fd00::2', 'fd00::3'])
})

test('whatever the past, a free address is found exactly if there is one, and never a taken one', () => {
  const address = fc.bigInt({ min: 0n, max: 15n })
  fc.assert(
    fc.property(
      fc.uniqueArray(address, { maxLength: 16 }),
      fc.array(fc.tuple(address, fc.integer({ min: -COOLING_MS, max: COOLING_MS })), {
        maxLength: 16,
      }),
      fc.option(address, { nil: undefined }),
      (takenList, coolingList, cursorAt) => {
        const [pool] = poolsOf(['10.0.0.0/28'])
        const at = (offset: bigint): bigint => 0x0a000000n + offset
        const taken = new Set(takenList.map(at))
        const cooling = new Map(
          coolingList.filter(([a]) => !taken.has(at(a))).map(([a, freed]) => [at(a), freed]),
        )
        const use = {
          taken,
          cooling,
          ...(cursorAt === undefined ? {} : { cursor: at(cursorAt) }),
        }
        const usable = Array.from({ length: 13 }, (_, k) => at(BigInt(k) + 2n))
        const free = usable.filter(each => !taken.has(each))
        const rested = free.filter(each => -(cooling.get(each) ?? -Infinity) >= COOLING_MS)
        const found = pick(pool!.spans, use, 0)
        if (free.length === 0) expect(found).toBeUndefined()
        else if (rested.length > 0) expect(rested).toContain(found)
        else expect(found).toBe([...cooling.keys()].find(each => free.includes(each)))
      },
    ),
  )
})

describe('an address that a pod asks for', () => {
  const pools = poolsOf(['10.0.0.0/28', 'fd00::/120'])
  const ask = (id: string, texts: string[], now = 0): Attachment =>
    reserve(state, pools, texts.map(address), wanted(id), now)

  test('is given, the other family is searched, and the search goes on where it was', () => {
    expect(ask('a', [])).toMatchObject({ ip4: '10.0.0.2', ip6: 'fd00::2' })
    expect(ask('b', ['10.0.0.9'])).toMatchObject({ ip4: '10.0.0.9', ip6: 'fd00::3' })
    expect(ask('c', ['fd00::77', '10.0.0.10'])).toMatchObject({ ip4: '10.0.0.10', ip6: 'fd00::77' })
    expect(ask('d', [])).toMatchObject({ ip4: '10.0.0.3', ip6: 'fd00::4' })
  })

  test.each([
    ['taken', '10.0.0.2', 11, '10.0.0.2: taken by n/a/eth0'],
    ['cooling', '10.0.0.3', 11, '10.0.0.3: it was freed a moment ago and still cools down'],
    ['outside', '10.0.1.2', 7, '10.0.1.2: it is not in 10.0.0.0/28'],
    ['the network', '10.0.0.0', 7, '10.0.0.0: it is the network address of 10.0.0.0/28'],
    ['the gateway', '10.0.0.1', 7, '10.0.0.1: it is the gateway of 10.0.0.0/28'],
    ['broadcast', '10.0.0.15', 7, '10.0.0.15: it is the broadcast address of 10.0.0.0/28'],
    ["the routers'", 'fd00::', 7, "fd00::: it is the subnet routers' address of fd00::/120"],
  ])('is refused when it is %s, and nothing is allocated', (_what, text, code, message) => {
    ask('a', [])
    ask('b', [])
    state.release(wanted('b'), 0)
    const before = [state.list(), state.addressUse(4), state.addressUse(6)]
    expect(() => ask('c', [text], 1)).toThrow(expect.objectContaining({ code, message }))
    expect([state.list(), state.addressUse(4), state.addressUse(6)]).toEqual(before)
  })

  test('is given again when it has rested', () => {
    ask('a', ['10.0.0.9'])
    state.release(wanted('a'), 0)
    expect(() => ask('b', ['10.0.0.9'], COOLING_MS - 1)).toThrow(/10\.0\.0\.9/)
    expect(ask('b', ['10.0.0.9'], COOLING_MS).ip4).toBe('10.0.0.9')
  })

  test('has to be of a family that the network has', () => {
    const four = poolsOf(['10.0.0.0/28'])
    expect(() => reserve(state, four, [address('fd00::2')], wanted('a'))).toThrow(
      expect.objectContaining({ code: 7, message: 'fd00::2: the network has no IPv6' }),
    )
    expect(state.list()).toEqual([])
  })
})

describe('an address that an IPAM plugin gave', () => {
  test('is written down, is no longer given out, and moves no search', () => {
    const pools = poolsOf(['10.0.0.0/29'])
    const given = ['10.0.0.2', '2001:db8::7'].map(address)
    expect(record(state, given, wanted('a'), 5)).toMatchObject({
      ...{ ip4: '10.0.0.2', ip6: '2001:db8::7', phase: 'reserved', created: 5 },
    })
    expect(state.addressUse(4).cursor).toBeUndefined()
    expect(reserve(state, pools, [], wanted('b')).ip4).toBe('10.0.0.3')
  })

  test('is refused when a pod has it, and nothing is written', () => {
    record(state, [address('10.0.0.2')], wanted('a'))
    expect(() => record(state, ['fd00::9', '10.0.0.2'].map(address), wanted('b'))).toThrow(
      expect.objectContaining({ code: 11, message: expect.stringContaining('n/a/eth0 has it') }),
    )
    expect(state.list()).toHaveLength(1)
  })
})

test('few addresses left are told before there are none', () => {
  const pools = poolsOf(['10.0.0.0/27', 'fd00::/64'])
  const usable = 29
  for (let k = 0; k < usable; k++) {
    const left = usable - k
    const low = left < usable * LOW_ADDRESSES
    const note = `${left} of 29 addresses are left in 10.0.0.0/27`
    expect(lowNotes(state, pools)).toEqual(low ? [note] : [])
    reserve(state, pools, [], wanted(`c${k}`), 0)
  }
  expect(lowNotes(state, pools)).toEqual(['0 of 29 addresses are left in 10.0.0.0/27'])
  expect(exhausted(state, pools)).toEqual(['10.0.0.0/27'])
  // One that cools down can be had when there is nothing else.
  state.release(wanted('c7'), 0)
  expect(lowNotes(state, pools)).toEqual(['1 of 29 addresses are left in 10.0.0.0/27'])
  expect(exhausted(state, pools)).toEqual([])
})

test('addresses are canonical text', () => {
  expect(addressText(4, 0x0a000001n)).toBe('10.0.0.1')
  expect(addressText(6, 0xfd00n << 112n)).toBe('fd00::')
})

test('each pool goes on behind its own last address, whatever other pools do, over restarts too', () => {
  const own = poolsOf(['10.244.0.0/24'])
  const blue = poolsOf(['10.60.0.0/24'])
  const found: (string | undefined)[] = []
  for (let k = 0; k < 3; k++) {
    for (const [name, pools] of Object.entries({ own, blue })) {
      const { ip4, ...row } = reserve(state, pools, [], wanted(`${name}${k}`), k * 2 * COOLING_MS)
      found.push(ip4)
      state.release(row, k * 2 * COOLING_MS)
    }
    reopen()
  }
  expect(found).toEqual([
    ...['10.244.0.2', '10.60.0.2'],
    ...['10.244.0.3', '10.60.0.3'],
    ...['10.244.0.4', '10.60.0.4'],
  ])
})
