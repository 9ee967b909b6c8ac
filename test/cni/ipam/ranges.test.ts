import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { COOLING_MS, pick, reserve } from '../../../cni/ipam/allocator.ts'
import {
  type Block,
  gatewayFor,
  parseExclusion,
  poolsOf,
  type RangeSets,
  rangesOf,
  refusal,
} from '../../../cni/ipam/ranges.ts'
import { addressText, parseAddress } from '../../../cni/netip/cidr.ts'
import { inSpans, type Span, sizeOf, subtract } from '../../../cni/netip/spans.ts'
import { CniError } from '../../../cni/spec/errors.ts'
import { State } from '../../../cni/state/state.ts'

const PODS = ['10.0.0.0/24', 'fd00::/64']

/** The pools of `ipam.ranges`, with what the daemon excludes. */
function pools(ranges: unknown, exclude: string[] = []) {
  return poolsOf(PODS, rangesOf({ type: 'hawser', ranges }), exclude.map(block))
}

function block(text: string): Block {
  const parsed = parseExclusion(text)
  if ('cause' in parsed) throw new Error(parsed.cause)
  return parsed
}

function address(text: string) {
  const parsed = parseAddress(text)
  if (!parsed.ok) throw new Error(parsed.cause)
  return parsed.value
}

const texts = (family: 4 | 6, spans: readonly Span[]): string[] =>
  spans.map(({ first, last }) => `${addressText(family, first)} ${addressText(family, last)}`)

describe('pools', () => {
  test('are the pod CIDRs, without their ends and what is excluded', () => {
    const [four, six] = poolsOf(
      PODS,
      undefined,
      ['10.0.0.16/28', '10.0.0.2', 'fd00::/120'].map(block),
    )
    expect(texts(4, four!.spans)).toEqual(['10.0.0.3 10.0.0.15', '10.0.0.32 10.0.0.254'])
    expect(texts(6, six!.spans)).toEqual(['fd00::100 fd00::ffff:ffff:ffff:ffff'])
    expect([four!.text, six!.text]).toEqual(PODS)
    expect(gatewayFor(four!, address('10.0.0.9'))).toBe('10.0.0.1')
  })

  test('are the ranges inside them, with ends and gateways of their own', () => {
    const [four, six] = pools([
      [
        {
          subnet: '10.0.0.128/26',
          gateway: '10.0.0.190',
          exclude: ['10.0.0.130', '10.0.0.160/27'],
        },
        { subnet: '10.0.0.0/25', rangeStart: '10.0.0.1', rangeEnd: '10.0.0.9' },
      ],
      [{ subnet: 'fd00::/64', rangeStart: 'fd00::', rangeEnd: 'fd00::8', exclude: ['fd00::4'] }],
    ])
    expect(texts(4, four!.spans)).toEqual([
      '10.0.0.2 10.0.0.9',
      '10.0.0.129 10.0.0.129',
      '10.0.0.131 10.0.0.159',
    ])
    expect(texts(6, six!.spans)).toEqual(['fd00::2 fd00::3', 'fd00::5 fd00::8'])
    expect(four!.text).toBe('10.0.0.128/26, 10.0.0.1 .. 10.0.0.9')
    expect(gatewayFor(four!, address('10.0.0.129'))).toBe('10.0.0.190')
    expect(gatewayFor(four!, address('10.0.0.2'))).toBe('10.0.0.1')
    expect(refusal(four!, address('10.0.0.190'))).toBe('it is the gateway of 10.0.0.128/26')
    expect(refusal(four!, address('10.0.0.161'))).toBe('it is excluded (10.0.0.160/27)')
    expect(refusal(four!, address('10.0.0.100'))).toMatch(/not in 10\.0\.0\.128\/26, /)
    expect(refusal(four!, address('10.0.0.131'))).toBeUndefined()
  })

  test('without ranges in the configuration are the pod CIDRs', () => {
    for (const ipam of [undefined, null, {}, { ranges: null }])
      expect(rangesOf(ipam)).toBeUndefined()
  })

  test.each<[title: string, ranges: unknown, message: RegExp]>([
    ['no list', {}, /: ipam\.ranges: /],
    ['no set', [], /: ipam\.ranges: /],
    ['an empty set', [[]], /: ipam\.ranges\[0\]: /],
    ['no subnet', [[{}]], /: ipam\.ranges\[0\]\[0\]\.subnet: /],
    ['no CIDR', [[{ subnet: '10.0.0.0' }]], /ranges\[0\]\[0\]\.subnet: 10\.0\.0\.0: not a CIDR/],
    [
      'another network',
      [[{ subnet: '10.0.1.0/25' }]],
      /10\.0\.1\.0\/25 is not inside .*10\.0\.0\.0\/24/,
    ],
    ['a wider one', [[{ subnet: '10.0.0.0/23' }]], /10\.0\.0\.0\/23 is not inside/],
    [
      'a start outside',
      [[{ subnet: '10.0.0.0/25', rangeStart: '10.0.0.200' }]],
      /rangeStart: 10\.0\.0\.200 is not in/,
    ],
    [
      'an end that is none',
      [[{ subnet: '10.0.0.0/25', rangeEnd: '10.0.0.x' }]],
      /rangeEnd: 10\.0\.0\.x: not an/,
    ],
    [
      'a gateway outside',
      [[{ subnet: '10.0.0.0/25', gateway: '10.0.0.128' }]],
      /gateway: 10\.0\.0\.128 is not in/,
    ],
    [
      'the end before the start',
      [[{ subnet: '10.0.0.0/25', rangeStart: '10.0.0.9', rangeEnd: '10.0.0.8' }]],
      /ends \(10\.0\.0\.8\) before it starts \(10\.0\.0\.9\)/,
    ],
    [
      'an exclusion that is none',
      [[{ subnet: '10.0.0.0/25', exclude: ['x'] }]],
      /exclude\[0\]: x: not an/,
    ],
    ['two families in a set', [[{ subnet: '10.0.0.0/25' }, { subnet: 'fd00::/80' }]], /in one set/],
    [
      'two sets of a family',
      [[{ subnet: '10.0.0.0/25' }], [{ subnet: '10.0.0.128/25' }]],
      /two sets of IPv4/,
    ],
    [
      'three sets',
      Array.from({ length: 3 }, () => [{ subnet: '10.0.0.0/25' }]),
      /: ipam\.ranges: /,
    ],
  ])('%s is refused with code 7 and its place', (_title, ranges, message) => {
    expect(() => pools(ranges)).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringMatching(message) }),
    )
  })

  test('whatever the configuration holds, it is taken or refused with code 7', () => {
    const range = fc.record(
      {
        subnet: fc.oneof(fc.constantFrom('10.0.0.0/25', 'fd00::/80', '10.0.0.0/33'), fc.string()),
        rangeStart: fc.oneof(fc.constantFrom('10.0.0.7', 'fd00::7'), fc.jsonValue()),
        rangeEnd: fc.oneof(fc.constantFrom('10.0.0.70', 'fd00::70'), fc.jsonValue()),
        gateway: fc.oneof(fc.constantFrom('10.0.0.3', ''), fc.string()),
        exclude: fc.oneof(fc.array(fc.constantFrom('10.0.0.9', '0.0.0.0/0', '/')), fc.jsonValue()),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.array(fc.array(range), { maxLength: 2 })), ranges => {
        try {
          pools(ranges)
        } catch (error) {
          expect(error).toBeInstanceOf(CniError)
          expect((error as CniError).code).toBe(7)
        }
      }),
    )
  })
})

describe('exclusions', () => {
  test('are addresses, or CIDRs of any length without host bits', () => {
    expect(block('10.0.0.7')).toMatchObject({ family: 4, first: 0x0a000007n, last: 0x0a000007n })
    expect(sizeOf([block('10.0.0.0/8')])).toBe(1n << 24n)
    expect(sizeOf([block('fd00::/16')])).toBe(1n << 112n)
    expect(sizeOf([block('10.0.0.7/32')])).toBe(1n)
    for (const [text, cause] of [
      ['10.0.0.7/24', 'host bits are set (meant 10.0.0.0/24?)'],
      ['10.0.0.0/33', 'more than 32'],
      ['fd00::/129', 'more than 128'],
      ['10.0.0.0/', 'not an address or CIDR'],
      ['10.0.0.0/08', 'not an address or CIDR'],
      ['pods', 'not an address or CIDR'],
    ] as const) {
      expect(parseExclusion(text)).toMatchObject({ cause: expect.stringContaining(cause) })
    }
  })

  test('subtracting spans is subtracting their addresses one by one', () => {
    const span = fc
      .tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 12 }))
      .map(([first, more]) => ({ first: BigInt(first), last: BigInt(first + more) }))
    fc.assert(
      fc.property(
        fc.array(span, { maxLength: 6 }),
        fc.array(span, { maxLength: 6 }),
        (spans, blocks) => {
          const left = subtract(spans, blocks)
          for (let value = 0n; value < 60n; value++) {
            expect(inSpans(left, value)).toBe(inSpans(spans, value) && !inSpans(blocks, value))
          }
          for (const [k, { first, last }] of left.entries()) {
            expect(first <= last).toBe(true)
            if (k > 0) expect(first > left[k - 1]!.last).toBe(true)
          }
        },
      ),
    )
  })
})

/** A range inside 10.0.0.0/24, and what is excluded, as numbers of the last byte. */
const setup = fc.record({
  prefix: fc.constantFrom(26, 27, 28, 29, 30),
  subnet: fc.nat(63),
  start: fc.option(fc.nat(63), { nil: undefined }),
  end: fc.option(fc.nat(63), { nil: undefined }),
  gateway: fc.option(fc.nat(63), { nil: undefined }),
  exclude: fc.array(fc.nat(255), { maxLength: 8 }),
  daemonExcludes: fc.array(fc.nat(255), { maxLength: 8 }),
})

/** The set as a configuration has it, and by a rule of its own which last bytes may be given out. */
function naive(shape: typeof setup extends fc.Arbitrary<infer T> ? T : never) {
  const size = 2 ** (32 - shape.prefix)
  const base = (shape.subnet * size) % 256
  const at = (offset: number): number => base + (offset % size)
  const ip = (byte: number): string => `10.0.0.${byte}`
  const first = shape.start === undefined ? base : at(shape.start)
  const last = shape.end === undefined ? base + size - 1 : at(shape.end)
  const gateway = shape.gateway === undefined ? base + 1 : at(shape.gateway)
  const never = [0, 1, 255, base, gateway, base + size - 1]
  const excluded = [...shape.exclude, ...shape.daemonExcludes]
  const usable = Array.from({ length: 256 }, (_, byte) => byte)
    .filter(byte => byte >= first && byte <= last)
    .filter(byte => !never.includes(byte) && !excluded.includes(byte))
    .map(ip)
  const range = {
    subnet: `${ip(base)}/${shape.prefix}`,
    ...(shape.start === undefined ? {} : { rangeStart: ip(first) }),
    ...(shape.end === undefined ? {} : { rangeEnd: ip(last) }),
    ...(shape.gateway === undefined ? {} : { gateway: ip(gateway) }),
    exclude: shape.exclude.map(ip),
  }
  const sets: RangeSets | undefined = first <= last ? [[range]] : undefined
  return { sets, usable, daemonExcludes: shape.daemonExcludes.map(byte => block(ip(byte))) }
}

test('all that may be given out is, once, before it is exhausted, and nothing else ever', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hawser-ranges-'))
  const state = new State(join(folder, 'state.db'), 'boot')
  const wanted = (containerId: string) => ({
    ...{ network: 'n', containerId, ifname: 'eth0', netns: '/run/netns/x' },
    ...{ netnsDev: '4', netnsIno: '1', kind: 'tun' as const, pod: '' },
  })
  try {
    fc.assert(
      fc.property(setup, shape => {
        const { sets, usable, daemonExcludes } = naive(shape)
        fc.pre(sets !== undefined)
        const own = poolsOf(['10.0.0.0/24'], sets, daemonExcludes)
        const given: string[] = []
        try {
          for (;;) given.push(reserve(state, own, [], wanted(`c${given.length}`), 0).ip4!)
        } catch (error) {
          expect(error).toMatchObject({ code: 11 })
        }
        expect([...given].sort()).toEqual([...usable].sort())
        expect(new Set(given).size).toBe(given.length)
        for (const each of state.list()) state.release(each, -COOLING_MS)
      }),
      { numRuns: 40 },
    )
  } finally {
    state.close()
    rmSync(folder, { recursive: true, force: true })
  }
})

test('when all rest, they come back in the order in which they were freed', () => {
  fc.assert(
    fc.property(setup, fc.nat(), (shape, seed) => {
      const { sets, usable, daemonExcludes } = naive(shape)
      fc.pre(sets !== undefined && usable.length > 0)
      const [pool] = poolsOf(['10.0.0.0/24'], sets, daemonExcludes)
      // Any order will do, also of addresses that this pool doesn't have.
      const order = [...usable, '10.0.0.1', '10.9.9.9']
        .map((text, k) => ({ text, rank: ((k + 1) * 7919 + seed) % 104_729 }))
        .sort((a, b) => a.rank - b.rank)
        .map(each => each.text)
      const cooling = new Map(order.map((text, k) => [address(text).value, -k]))
      const taken = new Set<bigint>()
      const back: string[] = []
      for (let found = pick(pool!.spans, { taken, cooling }, 0); found !== undefined; ) {
        back.push(addressText(4, found))
        taken.add(found)
        cooling.delete(found)
        found = pick(pool!.spans, { taken, cooling }, 0)
      }
      expect(back).toEqual(order.filter(text => usable.includes(text)))
    }),
  )
})

test('a huge exclusion in a huge range is not walked through', () => {
  const [pool] = poolsOf(['fd00::/16'], undefined, [block('fd00::/17')])
  const found = pick(pool!.spans, { taken: new Set(), cooling: new Map() }, 0)
  expect(addressText(6, found!)).toBe('fd00:8000::')
  expect(sizeOf(pool!.spans)).toBe(1n << 111n)
})

describe('namespaces of a range', () => {
  const RANGES = [[{ subnet: '10.244.1.0/26', namespaces: ['shop'] }, { subnet: '10.244.1.0/24' }]]
  const of = (namespace?: string, ranges: unknown = RANGES) =>
    poolsOf(['10.244.1.0/24'], rangesOf({ type: 'hawser', ranges }), [], namespace)[0]!
  const address = (text: string) => {
    const parsed = parseAddress(text)
    if (!parsed.ok) throw new Error(parsed.cause)
    return parsed.value
  }

  test('what is kept for one namespace no other has, though a wider range has it in it', () => {
    expect(refusal(of('shop'), address('10.244.1.9'))).toBeUndefined()
    expect(refusal(of('bank'), address('10.244.1.9'))).toBe('it is kept for pods of shop')
    expect(refusal(of('bank'), address('10.244.1.99'))).toBeUndefined()
    expect(refusal(of(''), address('10.244.1.9'))).toBe('it is kept for pods of shop')
    expect(sizeOf(of('bank').spans)).toBe(191n)
  })

  test('nobody is asked for where all of it is meant', () => {
    expect(sizeOf(of().spans)).toBe(sizeOf(of('shop').spans))
  })

  test('a set that has nothing for a namespace refuses its pods', () => {
    const only = [[{ subnet: '10.244.1.0/24', namespaces: ['shop', 'bank'] }]]
    expect(of('bank', only).text).toBe('10.244.1.0/24')
    expect(() => of('other', only)).toThrow(
      'ipam.ranges[0]: no range is for pods of namespace other',
    )
    expect(() => of('', only)).toThrow('no range is for a pod whose namespace is not known')
  })
})
