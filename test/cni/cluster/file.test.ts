import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { MAX_DOCUMENT_BYTES } from '../../../cni/base/document.ts'
import { ClusterFile, parseCluster } from '../../../cni/cluster/file.ts'
import type { Closer, ClusterView } from '../../../cni/cluster/view.ts'
import { parsePodCidr } from '../../../cni/netip/cidr.ts'

const FILE = '/etc/hawser/cluster.yaml'

function parse(nodes: unknown, self = 'node-a'): ClusterView {
  return parseCluster(FILE, JSON.stringify({ nodes }), self)
}

const A = { name: 'node-a', vtep: '192.0.2.11', podCIDRs: ['10.244.0.0/24', 'fd00:10:244::/64'] }
const B = { name: 'node-b', vtep: '192.0.2.12', podCIDRs: ['10.244.1.0/24'] }

describe('a good file', () => {
  test('gives this node and its peers, YAML or JSON alike', () => {
    const yaml = `
# two nodes
nodes:
  - name: node-a
    vtep: 192.0.2.11
    podCIDRs: [10.244.0.0/24, "FD00:0010:244:0::/64"]
  - name: node-b
    vtep: 192.0.2.12
    vtepMac: 02:AA:bb:cc:dd:ee
    podCIDRs:
      - 10.244.1.0/24
`
    const view = parseCluster(FILE, yaml, 'node-b')
    expect(view).toEqual({
      self: {
        name: 'node-b',
        vtep: '192.0.2.12',
        vtepMac: '02:aa:bb:cc:dd:ee',
        podCidrs: ['10.244.1.0/24'],
      },
      peers: [
        { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.244.0.0/24', 'fd00:10:244::/64'] },
      ],
      networks: [],
    })
    expect(parse([A, B], 'node-a').peers).toEqual([
      { name: 'node-b', vtep: '192.0.2.12', podCidrs: ['10.244.1.0/24'] },
    ])
  })

  test('may have IPv6 VTEPs, which come back in canonical text', () => {
    const view = parse([{ ...A, vtep: '2001:DB8:0:0::B' }])
    expect(view.self.vtep).toBe('2001:db8::b')
  })
})

describe('what is refused, with file, field and cause', () => {
  const cases: [title: string, nodes: unknown, message: string][] = [
    [
      'a prefix length out of range',
      [A, { ...B, podCIDRs: ['10.1.0.0/33'] }],
      `${FILE}: nodes[1].podCIDRs[0]: 10.1.0.0/33: the prefix length is not 8 .. 30`,
    ],
    [
      'host bits',
      [{ ...A, podCIDRs: ['10.244.0.7/24'] }],
      `${FILE}: nodes[0].podCIDRs[0]: 10.244.0.7/24: host bits are set (meant 10.244.0.0/24?)`,
    ],
    [
      'IPv6 host bits',
      [{ ...A, podCIDRs: ['fd00::1/64'] }],
      `${FILE}: nodes[0].podCIDRs[0]: fd00::1/64: host bits are set (meant fd00::/64?)`,
    ],
    [
      'leading zeros, which some tools read as octal',
      [{ ...A, podCIDRs: ['010.1.0.0/24'] }],
      `${FILE}: nodes[0].podCIDRs[0]: 010.1.0.0/24: not an IPv4 or IPv6 CIDR`,
    ],
    [
      'an address instead of a CIDR',
      [{ ...A, podCIDRs: ['10.1.0.0'] }],
      `${FILE}: nodes[0].podCIDRs[0]: 10.1.0.0: not a CIDR (address/length)`,
    ],
    [
      'a loopback range',
      [{ ...A, podCIDRs: ['127.0.1.0/24'] }],
      `${FILE}: nodes[0].podCIDRs[0]: 127.0.1.0/24: the range is or holds loopback`,
    ],
    [
      'a multicast range',
      [{ ...A, podCIDRs: ['ff00::/16'] }],
      `${FILE}: nodes[0].podCIDRs[0]: ff00::/16: the range is or holds multicast`,
    ],
    [
      'two CIDRs of one family',
      [{ ...A, podCIDRs: ['10.1.0.0/24', '10.2.0.0/24'] }],
      `${FILE}: nodes[0].podCIDRs[1]: 10.2.0.0/24: a second IPv4 CIDR of this node`,
    ],
    [
      'overlapping CIDRs',
      [{ ...A, podCIDRs: ['10.244.0.0/16'] }, B],
      `${FILE}: nodes[1].podCIDRs[0]: 10.244.1.0/24: overlaps nodes[0].podCIDRs[0], 10.244.0.0/16 of node-a`,
    ],
    [
      'the same name twice',
      [A, { ...B, name: 'node-a' }],
      `${FILE}: nodes[1].name: node-a: also the name of nodes[0]`,
    ],
    [
      'a name that is none',
      [A, { ...B, name: 'Node_B\n' }],
      `${FILE}: nodes[1].name: Node_B?: not a DNS-1123 name (lower case letters, digits, "-" and ".")`,
    ],
    [
      'the same VTEP twice, written differently',
      [
        { ...A, vtep: '2001:db8::1' },
        { ...B, vtep: '2001:db8:0::1' },
      ],
      `${FILE}: nodes[1].vtep: 2001:db8::1: also the VTEP of nodes[0] (node-a)`,
    ],
    [
      'VTEPs of two families',
      [A, { ...B, vtep: '2001:db8::1' }],
      `${FILE}: nodes[1].vtep: 2001:db8::1: not IPv4 as the VTEPs before it`,
    ],
    [
      'a VTEP in a pod CIDR',
      [A, { ...B, vtep: '10.244.0.200' }],
      `${FILE}: nodes[1].vtep: 10.244.0.200: inside the pod CIDR 10.244.0.0/24 of node-a`,
    ],
    [
      'a VTEP with a zone',
      [{ ...A, vtep: '2001:db8::1%eth0' }],
      `${FILE}: nodes[0].vtep: 2001:db8::1%eth0: not an IPv4 or IPv6 address`,
    ],
    [
      'a link-local VTEP',
      [{ ...A, vtep: 'fe80::1' }],
      `${FILE}: nodes[0].vtep: fe80::1: the address is link-local`,
    ],
    [
      'a multicast MAC',
      [{ ...A, vtepMac: '01:00:5e:00:00:01' }],
      `${FILE}: nodes[0].vtepMac: 01:00:5e:00:00:01: not a unicast MAC address`,
    ],
    ['an unknown key', [{ ...A, podCidrs: [] }], `${FILE}: nodes[0].podCidrs: unknown key`],
    [
      'a key of the wrong type',
      [{ ...A, podCIDRs: '10.1.0.0/24' }],
      `${FILE}: nodes[0].podCIDRs: 10.1.0.0/24: expected array, received string`,
    ],
    [
      'a missing key',
      [{ name: 'a', podCIDRs: ['10.1.0.0/24'] }],
      `${FILE}: nodes[0].vtep: missing (string expected)`,
    ],
    [
      'a file without this node',
      [B],
      `${FILE}: nodes: no node is named node-a (there: node-b); set "node" or --node`,
    ],
  ]
  for (const [title, nodes, message] of cases) {
    test(title, () => {
      expect(() => parse(nodes)).toThrow(expect.objectContaining({ message }))
    })
  }

  test('several problems are told at once', () => {
    expect(() =>
      parse([
        { ...A, vtep: 'x' },
        { ...B, podCIDRs: ['y/1'] },
      ]),
    ).toThrow(
      `${FILE}: nodes[0].vtep: x: not an IPv4 or IPv6 address; nodes[1].podCIDRs[0]: y/1: not an IPv4 or IPv6 CIDR`,
    )
  })

  test('YAML that is broken, has doubled keys, tags of its own or two documents', () => {
    const read = (text: string) => () => parseCluster(FILE, text, 'node-a')
    expect(read('nodes: [')).toThrow(/^\/etc\/hawser\/cluster\.yaml: Flow sequence .* line 1/)
    expect(read('nodes: []\nnodes: []')).toThrow(/Map keys must be unique at line 2, column 1/)
    expect(read('nodes: !!js/function x')).toThrow(/Unresolved tag: tag:yaml.org,2002:js\/function/)
    expect(read('a: 1\n---\nb: 1\n')).toThrow(/multiple documents/)
    expect(read('')).toThrow(`${FILE}: null: expected object, received null`)
    expect(read('{"nodes": [], "__proto__": {"a": 1}}')).toThrow(/__proto__: unknown key/)
  })

  test('aliases that grow without bound', () => {
    let text = 'a0: &a0 [x, x, x, x, x, x, x, x, x]\n'
    for (let i = 1; i < 12; i++) {
      text += `a${i}: &a${i} [${Array(9)
        .fill(`*a${i - 1}`)
        .join(', ')}]\n`
    }
    expect(() => parseCluster(FILE, text, 'node-a')).toThrow(/Excessive alias count/)
  })
})

test('any text gives a view or a DocumentError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), text => {
      try {
        parseCluster(FILE, text, 'node-a')
      } catch (error) {
        expect((error as Error).name).toBe('DocumentError')
        expect((error as Error).message).toMatch(/^\/etc\/hawser\/cluster\.yaml: [\x20-\x7e]+$/)
      }
    }),
  )
})

test('the overlap check agrees with comparing every pair', () => {
  const cidr = fc
    .tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: 24, max: 30 }))
    .map(([block, length]) => {
      const first = ((10 << 24) | (block << 2)) & (-1 << (32 - length))
      return `10.0.${(first >>> 8) & 255}.${first & 255}/${length}`
    })
  fc.assert(
    fc.property(fc.array(cidr, { minLength: 1, maxLength: 6 }), texts => {
      const ranges = texts.map(text => {
        const parsed = parsePodCidr(text)
        if (!parsed.ok) throw new Error(parsed.cause)
        return parsed.value
      })
      const overlap = ranges.some((a, i) =>
        ranges.some((b, j) => i < j && a.first <= b.last && b.first <= a.last),
      )
      const nodes = texts.map((text, i) => ({
        name: `n${i}`,
        vtep: `192.0.2.${i + 1}`,
        podCIDRs: [text],
      }))
      let refused = false
      try {
        parse(nodes, 'n0')
      } catch {
        refused = true
      }
      expect(refused).toBe(overlap)
    }),
  )
})

describe('on disk', () => {
  let folder = ''
  let closer: Closer | undefined
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'hawser-cluster-'))
  })
  afterEach(() => {
    closer?.close()
    closer = undefined
    rmSync(folder, { recursive: true, force: true })
  })

  test('a file that is away, a folder or too large is refused by name', () => {
    const path = join(folder, 'cluster.yaml')
    expect(() => ClusterFile.read(path, 'node-a')).toThrow(`${path}: no such file`)
    expect(() => ClusterFile.read(folder, 'node-a')).toThrow(`${folder}: not a regular file`)
    writeFileSync(path, Buffer.alloc(MAX_DOCUMENT_BYTES + 1, 0x20))
    expect(() => ClusterFile.read(path, 'node-a')).toThrow(
      `${path}: larger than ${MAX_DOCUMENT_BYTES} bytes`,
    )
    writeFileSync(path, Buffer.from([0xff, 0xfe, 0x00]))
    expect(() => ClusterFile.read(path, 'node-a')).toThrow(`${path}: not UTF-8 text`)
  })

  /** Watches `path`; `next` resolves with what is told next. */
  function watching(path: string): { next: () => Promise<ClusterView | Error> } {
    const told: (ClusterView | Error)[] = []
    let wake: (() => void) | undefined
    const tell = (each: ClusterView | Error): void => {
      told.push(each)
      wake?.()
    }
    closer = new ClusterFile(path, 'node-a').watch(ClusterFile.read(path, 'node-a'), tell, tell)
    return {
      next: async () => {
        while (told.length === 0) {
          await new Promise<void>(resolve => {
            wake = resolve
          })
        }
        return told.shift() as ClusterView | Error
      },
    }
  }

  const text = (...nodes: unknown[]): string => JSON.stringify({ nodes })

  test('a file replaced by rename is read again; a bad one is told and the next good one taken', async () => {
    const path = join(folder, 'cluster.yaml')
    const replace = (content: string): void => {
      writeFileSync(`${path}.new`, content)
      renameSync(`${path}.new`, path)
    }
    writeFileSync(path, text(A))
    const { next } = watching(path)
    replace(text(A, B))
    expect(await next()).toMatchObject({ peers: [{ name: 'node-b' }] })
    replace('nodes: 7')
    expect(await next()).toMatchObject({
      message: `${path}: nodes: 7: expected array, received number`,
    })
    replace(text(A, { ...B, vtep: '192.0.2.99' }))
    expect(await next()).toMatchObject({ peers: [{ vtep: '192.0.2.99' }] })
    rmSync(path)
    expect(await next()).toMatchObject({ message: `${path}: no such file` })
    writeFileSync(path, text(A))
    expect(await next()).toMatchObject({ peers: [] })
  })

  test('a ConfigMap volume, replaced by its ..data link, is read again each time', async () => {
    const version = (name: string, content: string): void => {
      mkdirSync(join(folder, name))
      writeFileSync(join(folder, name, 'cluster.yaml'), content)
      symlinkSync(name, join(folder, '..data_tmp'))
      renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
    }
    version('..1', text(A))
    symlinkSync('..data/cluster.yaml', join(folder, 'cluster.yaml'))
    const { next } = watching(join(folder, 'cluster.yaml'))
    version('..2', text(A, B))
    rmSync(join(folder, '..1'), { recursive: true })
    expect(await next()).toMatchObject({ peers: [{ name: 'node-b' }] })
    version('..3', text(A, { ...B, name: 'node-c' }))
    rmSync(join(folder, '..2'), { recursive: true })
    expect(await next()).toMatchObject({ peers: [{ name: 'node-c' }] })
  })

  test('a link into another folder follows edits there', async () => {
    mkdirSync(join(folder, 'real'))
    mkdirSync(join(folder, 'etc'))
    const real = join(folder, 'real', 'nodes.yaml')
    writeFileSync(real, text(A))
    symlinkSync(real, join(folder, 'etc', 'cluster.yaml'))
    const { next } = watching(join(folder, 'etc', 'cluster.yaml'))
    writeFileSync(real, text(A, B))
    expect(await next()).toMatchObject({ peers: [{ name: 'node-b' }] })
  })
})
