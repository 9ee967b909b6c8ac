import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseArgs } from '../../../cni/spec/args.ts'
import { CniError } from '../../../cni/spec/errors.ts'
import {
  delegateIn,
  delegateOf,
  parseAdd,
  parseCheck,
  parseDel,
  parseGc,
  parseJson,
  parseStatus,
  versionIn,
} from '../../../cni/spec/netconf.ts'
import { VARIABLES } from '../../../cni/spec/request.ts'
import { CNI_VERSIONS, VERBS } from '../../../cni/spec/versions.ts'

const EMPTY = Object.fromEntries(VARIABLES.map(name => [name, ''])) as Record<
  (typeof VARIABLES)[number],
  string
>
const ENV = {
  ...EMPTY,
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c0ffee',
  CNI_NETNS: '/run/netns/x',
  CNI_IFNAME: 'eth0',
}

describe('variables', () => {
  const refused = (env: Partial<typeof ENV>): string => {
    try {
      parseArgs({ ...ENV, ...env })
    } catch (error) {
      expect((error as CniError).code).toBe(4)
      return (error as CniError).message
    }
    return 'taken'
  }

  test('ADD and CHECK need id, namespace and interface, DEL no namespace, the others nothing', () => {
    const all = [
      'CNI_CONTAINERID: missing, ADD needs it',
      'CNI_IFNAME: missing, ADD needs it',
      'CNI_NETNS: missing, ADD needs it',
    ]
    expect(refused({ ...EMPTY, CNI_COMMAND: 'ADD' })).toBe(all.join('; '))
    expect(refused({ ...EMPTY, CNI_COMMAND: 'CHECK' })).toContain('CNI_NETNS: missing')
    expect(refused({ ...EMPTY, CNI_COMMAND: 'DEL' })).not.toContain('CNI_NETNS')
    expect(refused({ CNI_COMMAND: 'DEL', CNI_NETNS: '' })).toBe('taken')
    expect(refused({ CNI_COMMAND: 'DEL', CNI_NETNS: 'not a path' })).toBe('taken')
    for (const verb of ['STATUS', 'GC', 'VERSION']) {
      expect(refused({ ...EMPTY, CNI_COMMAND: verb })).toBe('taken')
    }
    expect(refused({ CNI_COMMAND: 'UPDATE\n' })).toMatch(/^CNI_COMMAND UPDATE\?: not one of ADD/)
  })

  const bad: [name: 'CNI_CONTAINERID' | 'CNI_IFNAME' | 'CNI_NETNS', value: string][] = [
    ['CNI_CONTAINERID', '-a'],
    ['CNI_CONTAINERID', '../x'],
    ['CNI_CONTAINERID', 'a/b'],
    ['CNI_CONTAINERID', 'a\n'],
    ['CNI_CONTAINERID', 'x'.repeat(201)],
    ['CNI_IFNAME', '.'],
    ['CNI_IFNAME', '..'],
    ['CNI_IFNAME', 'a/b'],
    ['CNI_IFNAME', 'a:b'],
    ['CNI_IFNAME', 'a b'],
    ['CNI_IFNAME', 'a\tb'],
    ['CNI_IFNAME', 'sixteen-bytes-xx'],
    ['CNI_IFNAME', 'ééééééééé'],
    ['CNI_NETNS', 'run/netns/x'],
    ['CNI_NETNS', `/${'x'.repeat(5000)}`],
  ]
  for (const [name, value] of bad) {
    test(`${name} ${JSON.stringify(value.slice(0, 20))} is refused by name`, () => {
      expect(refused({ [name]: value })).toMatch(new RegExp(`^${name} `))
    })
  }

  test('names at their limits are taken', () => {
    expect(
      refused({ CNI_CONTAINERID: `a${'._-'.repeat(66)}b`, CNI_IFNAME: 'fifteen-bytes-x' }),
    ).toBe('taken')
  })

  test('CNI_ARGS name the pod; what is unknown or malformed is passed over', () => {
    const pod = (args: string): string => parseArgs({ ...ENV, CNI_ARGS: args }).pod
    expect(
      pod('IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u;X=y'),
    ).toBe('default/web-0')
    expect(pod('K8S_POD_NAME=a=b')).toBe('-/a=b')
    expect(pod('')).toBe('')
    expect(pod(';;=;nonsense')).toBe('')
    expect(pod('K8S_POD_NAMESPACE=a\u001b[31m;K8S_POD_NAME=b')).toBe('a?[31m/b')
  })

  test('any variables give arguments or an error with code 4', () => {
    const value = fc.oneof(fc.constant(''), fc.string(), fc.constantFrom(...VERBS, 'eth0', '/x'))
    fc.assert(
      fc.property(fc.tuple(...VARIABLES.map(() => value)), values => {
        const env = Object.fromEntries(VARIABLES.map((name, k) => [name, values[k]]))
        try {
          parseArgs(env as typeof ENV)
        } catch (error) {
          expect((error as CniError).code).toBe(4)
        }
      }),
    )
  })
})

describe('the network configuration', () => {
  const CONF = { cniVersion: '1.1.0', name: 'hawser', type: 'hawser' }
  const code = (work: () => unknown): [number, string] => {
    try {
      work()
    } catch (error) {
      expect(error).toBeInstanceOf(CniError)
      return [(error as CniError).code, (error as CniError).message]
    }
    return [0, '']
  }

  test('has defaults, and takes what a runtime and other plugins put into it', () => {
    expect(parseAdd(CONF)).toEqual({ ...CONF, attach: 'tun' })
    const full = {
      ...CONF,
      attach: 'xdp',
      mtu: 1400,
      dns: { nameservers: ['10.96.0.10'], extra: 1 },
      prevResult: { cniVersion: '1.1.0', whatever: [] },
      ipam: {},
      capabilities: { portMappings: true },
      runtimeConfig: { portMappings: [{ hostPort: 1 }] },
      'cni.dev/something': {},
      'io.kubernetes.cri.pod-annotations': { a: 'b' },
    }
    expect(parseAdd(full)).toEqual(full)
    expect(parseAdd({ ...CONF, dns: null, prevResult: null, ipam: null })).toMatchObject(CONF)
  })

  test('without a version it is of the first one', () => {
    expect(parseAdd({ name: 'n' }).cniVersion).toBe('0.1.0')
    expect(versionIn({ name: 'n' })).toBeUndefined()
    expect(versionIn({ cniVersion: 7 })).toBeUndefined()
    expect(versionIn(null)).toBeUndefined()
  })

  test('each verb is there from its version on', () => {
    const first = (parse: (document: unknown) => unknown): string | undefined =>
      CNI_VERSIONS.find(
        cniVersion => code(() => parse({ ...CONF, cniVersion, prevResult: {} }))[0] === 0,
      )
    expect([parseAdd, parseCheck, parseStatus, parseGc].map(first)).toEqual([
      '0.1.0',
      '0.4.0',
      '1.1.0',
      '1.1.0',
    ])
    for (const cniVersion of ['9.9.9', '1.1', '']) {
      expect(code(() => parseAdd({ ...CONF, cniVersion }))[0]).toBe(1)
      expect(code(() => parseDel({ ...CONF, cniVersion }))[0]).toBe(0)
    }
  })

  test('a DEL asks for nothing but the name of the network', () => {
    const conf = { name: 'hawser', attach: 7, mtu: 'x', prevResult: 'y', ipam: [] }
    expect(parseDel(conf).name).toBe('hawser')
    expect(code(() => parseDel({}))).toEqual([7, expect.stringContaining('name: ')])
  })

  const cases: [title: string, conf: object, code: number, message: RegExp][] = [
    ['no name', { cniVersion: '1.0.0' }, 7, /: name: expected string/],
    ['a name that is none', { ...CONF, name: 'a/b' }, 7, /: name: not a name/],
    ['an unknown kind', { ...CONF, attach: 'veth' }, 7, /: attach: expected one of "tun"\|"xdp"/],
    ['an MTU that is too small', { ...CONF, mtu: 1279 }, 7, /: mtu: Too small/],
    ['an MTU that is no integer', { ...CONF, mtu: 1400.5 }, 7, /: mtu: /],
    ['an IPAM of the wrong shape', { ...CONF, ipam: { type: 7 } }, 7, /: ipam\.type: /],
    ['dns of the wrong shape', { ...CONF, dns: { search: 'x' } }, 7, /: dns\.search: /],
    ['a prevResult that is none', { ...CONF, prevResult: [] }, 7, /: prevResult: /],
  ]
  for (const [title, conf, expected, message] of cases) {
    test(`${title} is refused`, () => {
      expect(code(() => parseAdd(conf))).toEqual([expected, expect.stringMatching(message)])
    })
  }

  test('an IPAM plugin is named by a name only', () => {
    const own = [undefined, null, {}, { type: '' }, { type: null }, { type: 'hawser', ranges: [] }]
    for (const ipam of own) {
      expect(delegateOf({ ipam })).toBeUndefined()
      expect(delegateIn({ ...CONF, ipam })).toBeUndefined()
    }
    expect(delegateOf({ ipam: { type: 'static' } })).toBe('static')
    expect(code(() => delegateOf({ ipam: { type: 'dhcp' } }))).toEqual([
      7,
      expect.stringContaining('ipam.type dhcp: DHCP needs a link'),
    ])
    expect(delegateOf({ ipam: { type: 'host-local' } })).toBe('host-local')
    expect(delegateIn({ ...CONF, ipam: { type: 'host-local' } })).toBe('host-local')
    for (const type of ['../x', '/bin/sh', 'a/b', '.', '..', 'a.b', '-x', ' x', 'x'.repeat(65)]) {
      expect(code(() => delegateOf({ ipam: { type } }))).toEqual([
        7,
        expect.stringContaining('ipam.type '),
      ])
      expect(delegateIn({ ...CONF, ipam: { type } })).toBeUndefined()
    }
    for (const odd of [null, 7, [], { ipam: 7 }, { ipam: [] }, { ipam: { type: 7 } }]) {
      expect(delegateIn(odd)).toBeUndefined()
    }
  })

  test('CHECK needs prevResult', () => {
    expect(code(() => parseCheck(CONF))).toEqual([7, expect.stringContaining('prevResult: ')])
  })

  test('GC tells no list from an empty one', () => {
    const KEY = 'cni.dev/valid-attachments'
    expect(parseGc(CONF)[KEY]).toBeUndefined()
    expect(parseGc({ ...CONF, [KEY]: null })[KEY]).toBeNull()
    expect(parseGc({ ...CONF, [KEY]: [] })[KEY]).toEqual([])
    expect(code(() => parseGc({ ...CONF, [KEY]: [{ containerID: 'a' }] }))).toEqual([
      7,
      expect.stringContaining(`${KEY}[0].ifname: `),
    ])
  })

  test('text that is not JSON has code 6', () => {
    expect(code(() => parseJson('{"a":'))[0]).toBe(6)
    expect(code(() => parseJson(''))[0]).toBe(6)
    expect(parseJson('[]')).toEqual([])
  })

  test('any JSON is taken or refused with a code', () => {
    const parsers = [parseAdd, parseDel, parseCheck, parseStatus, parseGc]
    fc.assert(
      fc.property(fc.jsonValue(), fc.dictionary(fc.string(), fc.jsonValue()), (value, more) => {
        for (const parse of parsers) {
          expect([0, 1, 2, 7]).toContain(code(() => parse(value))[0])
          expect([0, 1, 2, 7]).toContain(code(() => parse({ ...CONF, ...more }))[0])
        }
      }),
    )
  })
})
