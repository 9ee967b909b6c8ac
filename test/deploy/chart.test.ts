// The Helm chart, rendered by Helm itself (where Go can build it): with its defaults it is the plain
// manifest, with other values it is still valid; and its schema knows the daemon's keys.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { readConflist } from '../../cni/install/conflist.ts'
import { noGo } from '../harness/needs.ts'
import { BUILD_MS } from '../harness/prebuilt.ts'
import { type Finished, run } from '../harness/processes.ts'
import { helm, validator } from './go.ts'
import {
  deploy,
  loadFrom,
  type Objects,
  objectsOf,
  plainManifest,
  uninstallOf,
  verdicts,
} from './objects.ts'

const chart = deploy('chart')
const read = (path: string): string => readFileSync(join(chart, path), 'utf8')
const packageVersion = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8'),
).version as string

/** Labels and the annotation that only a chart has. */
function withoutHelm(objects: Objects): Objects {
  const copy = structuredClone(objects)
  for (const { metadata } of Object.values(copy)) {
    const { 'app.kubernetes.io/name': name } = metadata.labels
    metadata.labels = { 'app.kubernetes.io/name': name! }
  }
  delete copy.DaemonSet.spec.template.metadata.annotations
  return copy
}

/** With the files of the ConfigMap parsed: how YAML is written down is not compared. */
function parsed(objects: Objects): object {
  const data = Object.entries(objects.ConfigMap.data).map(([name, text]) => [name, parse(text)])
  return { ...objects, ConfigMap: { ...objects.ConfigMap, data: Object.fromEntries(data) } }
}

describe.skipIf(noGo('Helm') !== undefined)('rendered', () => {
  let program = ''
  let folder = ''
  beforeAll(async () => {
    program = await helm()
    folder = mkdtempSync(join(tmpdir(), 'hawser-chart-'))
  }, BUILD_MS)
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  /** Without a cluster, a network or anybody's settings. */
  const call = (...args: string[]): Promise<Finished> =>
    run(program, args, { env: { PATH: '/usr/bin:/bin', HOME: folder }, cwd: folder })

  async function template(values: object = {}): Promise<Finished> {
    writeFileSync(join(folder, 'values.yaml'), stringify(values))
    const where = ['--namespace', 'kube-system', '--kube-version', '1.34.0']
    return call('template', 'hawser', chart, ...where, '--values', join(folder, 'values.yaml'))
  }

  async function rendered(values: object = {}): Promise<{ text: string; objects: Objects }> {
    const { code, stdout, stderr } = await template(values)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return { text: stdout, objects: objectsOf(stdout) }
  }

  test('by default it is the plain manifest', async () => {
    const { objects } = await rendered()
    expect(parsed(withoutHelm(objects))).toEqual(parsed(objectsOf(plainManifest())))
  })

  test('lint has nothing to say', async () => {
    const { code, stdout } = await call('lint', '--strict', chart)
    expect({ code, stdout }).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('1 chart(s) linted, 0 chart(s) failed'),
    })
  })

  const CHANGED = {
    image: { repository: 'example.test/net/hawser', tag: '1.2.3', pullPolicy: 'Always' },
    imagePullSecrets: [{ name: 'puller' }],
    config: {
      // Numbers that Helm writes as 1.6777215e+07.
      ...{ vni: 16_777_215, smallFrames: 1_048_576, vxlanPort: 8472, workers: 4, mtu: 1400 },
      ...{ masquerade: false, hostDevice: 'hw9', fib: ['dxr', 'poptrie6'] },
      ...{ underlay: { device: 'eth1', mode: 'udp' }, log: { level: 'debug' } },
    },
    cluster: { nodes: [{ name: 'one', vtep: '2001:db8::1', podCIDRs: ['10.1.0.0/24'] }] },
    conflist: {
      ...{ cniVersion: '1.0.0', cniVersions: ['1.0.0', '1.1.0'], name: 'net' },
      plugins: [{ type: 'hawser', attach: 'xdp' }, { type: 'tuning' }],
    },
    ...{ uninstall: true, privileged: true, maxUnavailable: '10%', priorityClassName: '' },
    resources: { requests: { cpu: '4', memory: '2Gi' }, limits: { memory: '4Gi' } },
    initResources: { requests: { cpu: '10m', memory: '32Mi' }, limits: { memory: '64Mi' } },
    extraVolumes: [{ name: 'ipam', hostPath: { path: '/var/lib/cni', type: 'DirectoryOrCreate' } }],
    extraVolumeMounts: [{ name: 'ipam', mountPath: '/var/lib/cni' }],
    cni: { binDir: '/usr/libexec/cni', confDir: '/etc/kubernetes/cni/net.d' },
    ...{ nodeSelector: { 'kubernetes.io/arch': 'amd64' }, tolerations: [] },
  }

  test('other values arrive where they belong', async () => {
    const { objects } = await rendered(CHANGED)
    const { ConfigMap, DaemonSet } = objects
    const { config, cluster } = loadFrom(ConfigMap, 'one')
    expect(config).toMatchObject({
      ...{ node: 'one', logLevel: 'debug', socket: '/run/hawser/cni.sock' },
      dataplane: {
        ...{ vni: 16_777_215, smallFrames: 1_048_576, vxlanPort: 8472, workers: 4, mtu: 1400 },
        ...{ masquerade: false, hostDevice: 'hw9', fibs: ['dxr', 'poptrie6'] },
        underlay: { device: 'eth1', mode: 'udp' },
      },
    })
    expect(cluster.self).toMatchObject({ name: 'one', vtep: '2001:db8::1' })
    const file = join(folder, '10-hawser.conflist')
    writeFileSync(file, ConfigMap.data['10-hawser.conflist']!)
    expect(readConflist(file).plugins).toEqual(['hawser', 'tuning'])

    const pod = DaemonSet.spec.template.spec
    const [[daemon], [init]] = [pod.containers, pod.initContainers]
    expect(daemon).toMatchObject({
      ...{ image: 'example.test/net/hawser:1.2.3', imagePullPolicy: 'Always' },
      securityContext: { privileged: true },
    })
    expect(init!.securityContext).toEqual({ privileged: true })
    expect([daemon!.resources, init!.resources]).toEqual([
      ...[CHANGED.resources, CHANGED.initResources],
    ])
    expect(config.install).toEqual({ ...CHANGED.cni, conflist: config.install!.conflist })
    expect(config.install!.conflist).toMatch(/\/10-hawser\.conflist$/)
    const mounted = daemon!.volumeMounts.map(each => each.mountPath)
    const wanted = [...Object.values(CHANGED.cni), '/var/lib/cni']
    expect(mounted).toEqual(expect.arrayContaining(wanted))
    const paths = pod.volumes.flatMap(each => each.hostPath?.path ?? [])
    expect(paths).toEqual(expect.arrayContaining(wanted))
    for (const key of ['priorityClassName', 'tolerations']) expect(pod).not.toHaveProperty(key)
  })

  test('uninstall has the chart’s folders, and the image', async () => {
    expect(uninstallOf((await rendered()).text)).toBeUndefined()
    const plain = uninstallOf(readFileSync(deploy('uninstall.yaml'), 'utf8'))!
    const usual = uninstallOf((await rendered({ uninstall: true })).text)!
    expect(usual.spec).toEqual(plain.spec)
    const { spec } = uninstallOf((await rendered(CHANGED)).text)!.spec.template
    const [init] = spec.initContainers
    const { binDir, confDir } = CHANGED.cni
    expect(init).toMatchObject({
      ...{ image: 'example.test/net/hawser:1.2.3', securityContext: { privileged: true } },
      command: expect.arrayContaining(['--bin-dir', binDir, '--conf-dir', confDir]),
    })
    const mounted = init!.volumeMounts.map(({ mountPath }) => mountPath)
    expect(mounted).toEqual(expect.arrayContaining([binDir, confDir]))
    const paths = spec.volumes.flatMap(each => each.hostPath?.path ?? [])
    expect(paths).toEqual(expect.arrayContaining([binDir, confDir]))
  })

  test('another configuration or network makes other pods, another cluster does not', async () => {
    const sum = async (values: object): Promise<string> =>
      (await rendered(values)).objects.DaemonSet.spec.template.metadata.annotations![
        'checksum/config'
      ]!
    const usual = await sum({})
    expect(usual).toMatch(/^[0-9a-f]{64}$/)
    expect(await sum({ cluster: CHANGED.cluster })).toBe(usual)
    expect(await sum({ config: { vni: 2 } })).not.toBe(usual)
    const { conflist } = CHANGED
    const own = await sum({ conflist })
    expect(own).not.toBe(usual)
    expect(await sum({ conflist: { ...conflist, name: 'other' } })).not.toBe(own)
  })

  test(
    'the API server takes it all',
    async () => {
      for (const values of [{}, CHANGED]) {
        const said = await verdicts(await validator(), (await rendered(values)).text)
        expect(said.map(each => each.errors)).toEqual(said.map(() => []))
        expect(said.length).toBe('uninstall' in values ? 4 : 3)
      }
    },
    BUILD_MS,
  )

  test.each<[string, object, RegExp]>([
    ['a key that no daemon has', { config: { wrkers: 1 } }, /wrkers/],
    ['a value out of range', { config: { workers: 9 } }, /workers/],
    ['a socket that is not mounted', { config: { socket: '/tmp/cni.sock' } }, /socket/],
    ['a cluster without nodes', { cluster: { nodes: [] } }, /nodes/],
    ['a node without an address', { cluster: { nodes: [{ name: 'a' }] } }, /vtep/],
    ['a value that nobody reads', { replicas: 3 }, /replicas/],
    ['a folder that is none', { cni: { binDir: 'bin' } }, /binDir/],
    ['resources of another kind', { resources: { cpu: '1' } }, /cpu/],
    ['an installation beside `cni`', { config: { install: { binDir: '/a' } } }, /install/],
  ])('refused: %s', async (_, values, cause) => {
    const { code, stdout, stderr } = await template(values)
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(cause)
  })

  test('its notes name the nodes, and warn of the example’s', async () => {
    // Helm shows notes only when it installs into a cluster; as part of an object it renders them here.
    const copy = join(folder, 'copy')
    cpSync(chart, copy, { recursive: true })
    const notes = `{{ define "notes" }}${read('templates/NOTES.txt')}{{ end }}`
    const shown = 'data:\n  notes: |\n    {{- include "notes" . | nindent 4 }}\n'
    writeFileSync(join(copy, 'templates/notes.yaml'), `${notes}\n${shown}`)
    const only = ['--show-only', 'templates/notes.yaml', '--kube-version', '1.34.0']
    const noted = async (values: object): Promise<string> => {
      writeFileSync(join(folder, 'values.yaml'), stringify(values))
      const args = ['template', 'hawser', copy, ...only, '--values', join(folder, 'values.yaml')]
      const { code, stdout, stderr } = await call(...args)
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      return (parse(stdout) as { data: { notes: string } }).data.notes
    }
    const usual = await noted({})
    expect(usual).toContain('node-a  192.0.2.11  10.244.0.0/24, fd00:10:244:0::/64\n')
    expect(usual).toContain("node-b has an example's address")
    const changed = await noted({ cluster: CHANGED.cluster })
    expect(changed).toContain('one  2001:db8::1  10.1.0.0/24\n')
    expect(changed).not.toContain('example')
  })
})

test('versions agree: package, chart, manifest', () => {
  const { version, appVersion } = parse(read('Chart.yaml')) as Record<string, string>
  expect([version, appVersion]).toEqual([packageVersion, packageVersion])
  const { containers, initContainers } = objectsOf(plainManifest()).DaemonSet.spec.template.spec
  for (const { image } of [...containers, ...initContainers]) {
    expect(image).toBe(`hawser:${packageVersion}`)
  }
})

test('the schema of values has the keys that the daemon knows, and every one that is documented', () => {
  const schema = JSON.parse(read('values.schema.json')) as Schema
  const keys = leaves(schema.properties!['config']!)
  for (const key of keys) {
    // A value that is right nowhere: what is said of it tells whether the key is known.
    const wrong = key
      .split('.')
      .reduceRight<unknown>((inner, part) => ({ [part]: inner }), { no: 1 })
    expect(() => loadFrom(configMap(wrong), 'a'), key).toThrow(new RegExp(`yaml: ${key}(\\.|:)`))
    expect(() => loadFrom(configMap(wrong), 'a'), key).not.toThrow(`${key}: unknown key`)
  }
  expect(() => loadFrom(configMap({ wrkers: 1 }), 'a')).toThrow('wrkers: unknown key')

  const readme = readFileSync(deploy('../CONFIGURATION.md'), 'utf8')
  const section = /## Daemon configuration\n([\s\S]*?)\n## /.exec(readme)![1]!
  const documented = [...section.matchAll(/^\| `([A-Za-z.]+)` \|/gm)].map(([, key]) => key!)
  expect(documented.length).toBeGreaterThan(10)
  // What may be a number or an object is told of as a whole: its keys are looked up in the object.
  const all = [...keys, ...keys.flatMap(key => choices(schema.properties!['config']!, key))]
  expect(all).toEqual(expect.arrayContaining(documented.filter(key => key !== 'node')))
})

function configMap(config: unknown): Objects['ConfigMap'] {
  const metadata = { name: 'hawser', namespace: 'kube-system', labels: {} }
  return { metadata, data: { 'hawser.yaml': stringify(config) } }
}

interface Schema {
  properties?: Record<string, Schema>
  oneOf?: Schema[]
}

/** Dotted names inside of the object that the value at `key` may be as well. */
function choices(schema: Schema, key: string): string[] {
  const at = key.split('.').reduce((of, part) => of.properties![part]!, schema)
  return (at.oneOf ?? []).flatMap(each => leaves(each, `${key}.`))
}

/** Dotted names of what is no object. */
function leaves({ properties }: Schema, above = ''): string[] {
  return Object.entries(properties ?? {}).flatMap(([key, schema]) =>
    schema.properties ? leaves(schema, `${above}${key}.`) : [`${above}${key}`],
  )
}
