import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { requestedIps } from '../../../cni/ipam/request.ts'
import { MAX_REQUEST } from '../../../cni/spec/annotations.ts'
import { CniError } from '../../../cni/spec/errors.ts'

const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations'
const annotated = (value: unknown): object => ({
  [ANNOTATIONS]: { 'hawser.dev/ips': value, a: 'b' },
})
const asked = (document: unknown, args = ''): string[] =>
  requestedIps(document, args).map(({ text }) => text)

describe('what a pod asks for', () => {
  test('comes from the ips capability, with and without prefix', () => {
    const runtimeConfig = { ips: ['10.0.0.5/24', 'FD00:0::5'], portMappings: [] }
    expect(asked({ runtimeConfig })).toEqual(['10.0.0.5', 'fd00::5'])
    expect(asked({ runtimeConfig: { ips: ['fd00::5/128'] } })).toEqual(['fd00::5'])
  })

  test('comes from CNI_ARGS', () => {
    const args = 'IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.0.0.5,fd00::5/64;X=IP=1'
    expect(asked({}, args)).toEqual(['10.0.0.5', 'fd00::5'])
    expect(asked({}, 'IP=')).toEqual([])
    expect(asked({}, 'NOIP=10.0.0.5;IP')).toEqual([])
  })

  test('comes from an annotation, a JSON list or separated by commas', () => {
    expect(asked(annotated('["10.0.0.5", "fd00::5"]'))).toEqual(['10.0.0.5', 'fd00::5'])
    expect(asked(annotated(' 10.0.0.5 , fd00::5/64,'))).toEqual(['10.0.0.5', 'fd00::5'])
    expect(asked(annotated(''))).toEqual([])
    expect(asked(annotated('[]'))).toEqual([])
    expect(asked({ runtimeConfig: annotated('10.0.0.5') })).toEqual(['10.0.0.5'])
  })

  test('is read from the first place that names any', () => {
    const all = { ...annotated('10.0.0.7'), runtimeConfig: { ips: ['10.0.0.5'] } }
    expect(asked(all, 'IP=10.0.0.6')).toEqual(['10.0.0.5'])
    expect(asked({ ...all, runtimeConfig: { ips: [] } }, 'IP=10.0.0.6')).toEqual(['10.0.0.6'])
    expect(asked({ ...all, runtimeConfig: null })).toEqual(['10.0.0.7'])
    expect(asked({})).toEqual([])
    expect(asked({ [ANNOTATIONS]: null })).toEqual([])
    expect(asked({ [ANNOTATIONS]: ['hawser.dev/ips'] })).toEqual([])
  })
})

test.each<[title: string, document: object, args: string, message: RegExp]>([
  ['a word', { runtimeConfig: { ips: ['web'] } }, '', /runtimeConfig\.ips: web: not an IPv4 or/],
  ['ips that are no list', { runtimeConfig: { ips: '10.0.0.5' } }, '', /runtimeConfig\.ips: /],
  [
    'a prefix that is too long',
    {},
    'IP=10.0.0.5/33',
    /CNI_ARGS IP: 10\.0\.0\.5\/33: .* more than 32/,
  ],
  ['a prefix that is none', {}, 'IP=10.0.0.5/', /CNI_ARGS IP: 10\.0\.0\.5\/: /],
  ['a zone', {}, 'IP=fe80::1%eth0', /fe80::1%eth0: /],
  ['loopback', {}, 'IP=127.0.0.1', /127\.0\.0\.1: the address is loopback/],
  [
    'two of a family',
    annotated('10.0.0.5,10.0.0.6'),
    '',
    /10\.0\.0\.5 and 10\.0\.0\.6: a pod has one/,
  ],
  ['one twice', annotated('10.0.0.5,10.0.0.5'), '', /a pod has one IPv4 address/],
  ['a list that is cut', annotated('["10.0.0.5"'), '', /hawser\.dev\/ips: .*neither a JSON list/],
  ['a list of numbers', annotated('[10]'), '', /not a list of addresses/],
  ['an annotation that is no text', annotated(7), '', /hawser\.dev\/ips: not text/],
  ['one that is too long', annotated(','.repeat(MAX_REQUEST + 1)), '', /longer than 1024/],
  [
    'a JSON list that is too long',
    annotated(`[${' '.repeat(MAX_REQUEST)}]`),
    '',
    /longer than 1024/,
  ],
])('%s is refused with code 7 and its place', (_title, document, args, message) => {
  expect(() => requestedIps(document, args)).toThrow(
    expect.objectContaining({ code: 7, message: expect.stringMatching(message) }),
  )
})

test('whatever is asked for, it is an address or refused with code 7', () => {
  const text = fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), fc.json())
  fc.assert(
    fc.property(fc.oneof(text, fc.jsonValue()), text, fc.jsonValue(), (value, args, ips) => {
      for (const document of [
        annotated(value),
        { runtimeConfig: { ips } },
        { runtimeConfig: ips },
      ]) {
        try {
          expect(requestedIps(document, `IP=${args}`).length).toBeLessThanOrEqual(2)
        } catch (error) {
          expect(error).toBeInstanceOf(CniError)
          expect((error as CniError).code).toBe(7)
          expect((error as CniError).message).not.toMatch(/\p{C}/u)
        }
      }
    }),
  )
})
