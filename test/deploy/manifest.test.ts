// The plain manifest: what the API server's own validation says (where Go can build it), and what no
// schema knows: that parts fit each other, the image, the daemon and the command line.
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { DEFAULT_BIN_DIR, DEFAULT_CONF_DIR, PACKAGED_CONFLIST } from '../../cni/install/place.ts'
import { noGo } from '../harness/needs.ts'
import { CLI, EXECUTABLE } from '../harness/node.ts'
import { BUILD_MS } from '../harness/prebuilt.ts'
import { run } from '../harness/processes.ts'
import { validator } from './go.ts'
import { deploy, loadFrom, objectsOf, plainManifest, uninstallOf, verdicts } from './objects.ts'

const manifest = plainManifest()
const { ServiceAccount, ConfigMap, DaemonSet } = objectsOf(manifest)
const pod = DaemonSet.spec.template.spec
const daemon = pod.containers[0]!
const init = pod.initContainers[0]!

describe.skipIf(noGo('what the API server validates by') !== undefined)('API server', () => {
  test(
    'takes every object, and gives the pod the class Burstable',
    async () => {
      expect(await verdicts(await validator(), manifest)).toEqual([
        { kind: 'ServiceAccount', name: 'hawser', errors: [] },
        { kind: 'ConfigMap', name: 'hawser', errors: [] },
        { kind: 'DaemonSet', name: 'hawser', errors: [], qos: 'Burstable' },
      ])
    },
    BUILD_MS,
  )

  test.each(['uninstall.yaml', 'prepull.yaml'])(
    'takes %s',
    async name => {
      const [said, ...others] = await verdicts(
        await validator(),
        readFileSync(deploy(name), 'utf8'),
      )
      expect(others).toEqual([])
      expect(said).toMatchObject({ kind: 'DaemonSet', errors: [] })
    },
    BUILD_MS,
  )

  test(
    'would have said so if it did not',
    async () => {
      const wrong = manifest
        .replace('mountPropagation: HostToContainer', 'mountPropagation: Upwards')
        .replace('hostNetwork: true', 'hostNetworking: true')
      const said = (await verdicts(await validator(), wrong)).find(
        each => each.kind === 'DaemonSet',
      )
      expect(said?.errors.join('\n')).toMatch(
        /unknown field "spec\.template\.spec\.hostNetworking"/,
      )
      expect(said?.errors.join('\n')).toMatch(/mountPropagation: Unsupported value: "Upwards"/)
    },
    BUILD_MS,
  )
})

describe('the pod', () => {
  test('is selected, asks for no token, and tolerates every taint', () => {
    const { selector, template } = DaemonSet.spec
    expect(template.metadata.labels).toMatchObject(selector.matchLabels)
    expect(pod).toMatchObject({
      ...{ serviceAccountName: ServiceAccount.metadata.name, automountServiceAccountToken: false },
      ...{ priorityClassName: 'system-node-critical', hostNetwork: true },
      tolerations: [{ operator: 'Exists' }],
    })
    expect(ServiceAccount.automountServiceAccountToken).toBe(false)
    expect(pod).not.toHaveProperty('hostPID')
  })

  test('is stopped by no limit of CPU, and asks for little', () => {
    for (const { resources } of [init, daemon]) {
      expect(Object.keys(resources.requests).sort()).toEqual(['cpu', 'memory'])
      expect(Object.keys(resources.limits!)).toEqual(['memory'])
      // A node of one core has room for it beside what Kubernetes itself needs.
      expect(resources.requests['cpu']).toMatch(/^(50|100)m$/)
    }
    expect(init.resources).not.toEqual(daemon.resources)
  })

  test('leaves a node that is to be cleaned', () => {
    const { spec } = uninstallOf(readFileSync(deploy('uninstall.yaml'), 'utf8'))!
    const [[key, value]] = Object.entries(spec.template.spec.nodeSelector) as [[string, string]]
    expect(pod.affinity).toEqual({
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key, operator: 'NotIn', values: [value] }] }],
        },
      },
    })
  })

  test('has four capabilities and is not privileged', () => {
    expect(daemon.securityContext).toMatchObject({
      ...{ privileged: false, readOnlyRootFilesystem: true },
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW', 'SYS_ADMIN', 'IPC_LOCK'] },
    })
    expect(init.securityContext).toMatchObject({
      ...{ allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
    })
    expect(init.securityContext.capabilities).not.toHaveProperty('add')
  })

  test('mounts every volume, and nothing that is none', () => {
    const mounted = [init, daemon].flatMap(each => each.volumeMounts.map(({ name }) => name))
    expect([...new Set(mounted)].sort()).toEqual(pod.volumes.map(({ name }) => name).sort())
    const maps = pod.volumes.flatMap(each => (each.configMap ? [each.configMap.name] : []))
    expect(maps).toEqual([ConfigMap.metadata.name])
    const propagated = daemon.volumeMounts.filter(each => each.mountPropagation !== undefined)
    expect(propagated.map(each => [each.mountPath, each.mountPropagation])).toEqual([
      ['/run/netns', 'HostToContainer'],
    ])
  })

  test('has what daemon and installer write to on the node', () => {
    const from = (each: typeof daemon): Record<string, string | undefined> =>
      Object.fromEntries(
        each.volumeMounts.map(({ name, mountPath }) => [
          mountPath,
          pod.volumes.find(volume => volume.name === name)?.hostPath?.path,
        ]),
      )
    const { socket, state } = loadFrom(ConfigMap, 'node-a').config
    expect(from(init)).toEqual({ [DEFAULT_BIN_DIR]: DEFAULT_BIN_DIR })
    const { install } = loadFrom(ConfigMap, 'node-a').config
    for (const path of [
      install!.binDir,
      install!.confDir,
      dirname(socket),
      dirname(state),
      '/dev/net/tun',
      '/run/xtables.lock',
    ]) {
      expect(from(daemon)[path]).toBe(path)
      const mount = daemon.volumeMounts.find(({ mountPath }) => mountPath === path)
      expect(mount).not.toHaveProperty('readOnly')
    }
  })
})

describe('the files in the ConfigMap', () => {
  test('are good for every node that they name, and for no other', () => {
    const { nodes } = parse(ConfigMap.data['cluster.yaml']!) as { nodes: { name: string }[] }
    expect(nodes.length).toBeGreaterThan(1)
    for (const { name } of nodes) {
      const { config, cluster } = loadFrom(ConfigMap, name)
      expect(config.node).toBe(name)
      expect(cluster.peers.length).toBe(nodes.length - 1)
    }
    expect(() => loadFrom(ConfigMap, 'node-z')).toThrow(/node-z/)
  })

  test('are the ones of an installation by hand', () => {
    for (const name of ['hawser.yaml', 'cluster.yaml']) {
      expect(parse(ConfigMap.data[name]!), name).toMatchObject(
        parse(readFileSync(deploy(name), 'utf8')),
      )
    }
  })

  test('have the daemon install itself', () => {
    expect(loadFrom(ConfigMap, 'node-a').config.install).toEqual({
      ...{ binDir: DEFAULT_BIN_DIR, confDir: DEFAULT_CONF_DIR, conflist: PACKAGED_CONFLIST },
    })
    expect(daemon).not.toHaveProperty('lifecycle')
  })

  test('lie where the daemon looks for them', () => {
    const folder = daemon.volumeMounts.find(({ name }) => name === 'config')!.mountPath
    const { config } = loadFrom(ConfigMap, 'node-a')
    expect(dirname(config.cluster)).toBe(folder)
    expect(Object.keys(ConfigMap.data)).toContain(basename(config.cluster))
    expect(daemon.args).toEqual(['--config', join(folder, 'hawser.yaml'), '--node', '$(NODE_NAME)'])
  })
})

describe('the commands', () => {
  const uninstall = uninstallOf(readFileSync(deploy('uninstall.yaml'), 'utf8'))!.spec.template.spec
    .initContainers[0]!
  const commands = [
    ['the init container', init.command!],
    ['the entrypoint', ['hawser', 'daemon', ...daemon.args!]],
    ['uninstall.yaml', uninstall.command!],
  ] as const

  test.each(commands)('of %s have options that the command line knows', async (_, command) => {
    const [program, verb, ...flags] = command
    expect(program).toBe('hawser')
    const { code, stdout } = await run(process.execPath, [CLI, verb!, '--help'])
    expect(code).toBe(0)
    for (const flag of flags.filter(each => each.startsWith('--'))) {
      expect(stdout).toMatch(new RegExp(`^ +${flag} `, 'm'))
    }
  })

  test('that uninstall find the same folders as those that install', () => {
    const paths = (list: { mountPath: string }[]): string[] => list.map(each => each.mountPath)
    const installed = [...paths(init.volumeMounts), ...paths(daemon.volumeMounts)]
    expect(installed).toEqual(expect.arrayContaining(paths(uninstall.volumeMounts)))
    const { socket, state, install } = loadFrom(ConfigMap, 'node-a').config
    const behind = (flag: string): string =>
      uninstall.command![uninstall.command!.indexOf(flag) + 1]!
    expect([behind('--bin-dir'), behind('--conf-dir')]).toEqual([install!.binDir, install!.confDir])
    expect(behind('--config')).toBe(daemon.args![1])
    for (const path of [install!.binDir, install!.confDir, dirname(socket), dirname(state)]) {
      expect(paths(uninstall.volumeMounts)).toContain(path)
    }
  })

  test('of the probes: a daemon that answers lives, one that serves pods is ready', async () => {
    const [liveness, readiness] = [daemon.livenessProbe!, daemon.readinessProbe!]
    const { socket } = loadFrom(ConfigMap, 'node-a').config
    const program = '/opt/hawser/build/Release/hawser'
    expect(liveness.exec.command).toEqual([program, '--alive', socket])
    expect(readiness.exec.command).toEqual([program, '--ready', socket])
    const { stderr } = await run(EXECUTABLE, ['--help'])
    for (const flag of ['--alive', '--ready']) expect(stderr).toContain(flag)
    expect(existsSync(deploy('entrypoint.sh'))).toBe(true)
  })
})
