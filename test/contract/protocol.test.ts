// The contract, "Protocol": what goes in by environment and stdin, and what comes out by stdout.

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { CNI_VERSIONS } from '../../cni/spec/versions.ts'
import { type CniAnswer, EXECUTABLE } from '../harness/node.ts'
import { run } from '../harness/processes.ts'
import { conformed, contractNode, expectError, expectSuccess, links } from './fixture.ts'

const a = contractNode('proto')
const cases = conformed(
  '05-*,02-*@1.1.0,03-*@1.1.0,04-*@1.1.0,06-*@1.1.0,07-*@1.1.0,08-*',
  '*chain*',
)

test('1 six verbs, in every version that has them', async () => {
  const { json } = await a.cni('VERSION')
  expect(json['supportedVersions']).toEqual([...CNI_VERSIONS])
  for (const cniVersion of CNI_VERSIONS) {
    const since = (version: (typeof CNI_VERSIONS)[number]) =>
      CNI_VERSIONS.indexOf(cniVersion) >= CNI_VERSIONS.indexOf(version)
    const call = { containerId: a.newId(), netns: await a.netns() }
    const ask = (command: string, more = {}) =>
      a.cni(command, { ...call, config: a.node.config({ cniVersion, ...more }) })
    const { exit, json: prevResult } = await ask('ADD')
    expect([exit, prevResult['cniVersion']]).toEqual([0, cniVersion])
    const check = await ask('CHECK', { prevResult })
    if (since('0.4.0')) expectSuccess(check)
    else expectError(check, 1, /has no CHECK/)
    for (const command of ['STATUS', 'GC']) {
      const answer = await ask(command)
      if (since('1.1.0')) expectSuccess(answer)
      else expectError(answer, 1, /has no (STATUS|GC)/)
    }
    expectSuccess(await ask('DEL', since('0.4.0') ? { prevResult } : {}))
    expect(await links(call.netns)).toEqual(['lo'])
  }
})

test('2 each verb needs its variables and no others; empty ones are as good as absent', async () => {
  cases.expectPassed('02', '02-add-without-netns', '02-check-without-ifname', '02-gc-bare')
  const empty = { containerId: '', netns: '', ifname: '', args: '' }
  for (const command of ['STATUS', 'GC', 'VERSION']) {
    expect((await a.cni(command, empty)).exit).toBe(0)
  }
  expectError(await a.cni('ADD', empty), 4, /CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME: missing/)
  expectError(await a.cni('CHECK', empty), 4, /CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME: missing/)
  expectError(await a.cni('DEL', empty), 4, /CNI_CONTAINERID, CNI_IFNAME: missing/)
  // Neither the namespace of a DEL nor CNI_PATH has to be there, not even as a word.
  const env = { CNI_COMMAND: 'DEL', CNI_CONTAINERID: a.newId(), CNI_IFNAME: 'eth0' }
  const input = JSON.stringify(a.node.config())
  const { code, stdout } = await run(EXECUTABLE, [], { netns: a.node.netns, env, input })
  expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
})

test('3 names: letters, digits, "_.-" for containers and networks; what Linux takes for interfaces', async () => {
  cases.expectPassed(
    '03',
    '03-containerid-bad',
    '03-ifname-bad',
    '03-ifname-good',
    '03-network-bad',
  )
  const netns = await a.netns()
  const call = { netns, containerId: a.newId() }
  // Bytes count, not characters; and Linux takes the byte A0 for white space.
  const fifteen = [`${'é'.repeat(7)}x`, 'fifteen-letters', '漢字漢字漢']
  for (const ifname of fifteen) {
    expect(Buffer.byteLength(ifname)).toBe(15)
    const added = await a.cni('ADD', { ...call, ifname })
    expect(added.json).not.toHaveProperty('msg')
    expect(added.exit).toBe(0)
    expect(await links(netns)).toEqual([ifname, 'lo'].sort())
    expectSuccess(await a.cni('DEL', { ...call, ifname }))
  }
  const bad = [
    'é'.repeat(8),
    'sixteen-letters-',
    '.',
    '..',
    'a/b',
    'a:1',
    'a b',
    'a\tb',
    'a\v',
    'à',
  ]
  // Linux would put a number in the place of it.
  for (const ifname of [...bad, 'eth%d', '%']) {
    expectError(await a.cni('ADD', { ...call, ifname }), 4, /CNI_IFNAME/)
  }
  const longest = 'x'.repeat(200)
  expectSuccess(await a.cni('DEL', { containerId: longest }))
  for (const containerId of [`${longest}x`, '.a', '-a', '_a', 'a b', 'ä', 'a/b', 'a\n']) {
    expectError(await a.cni('ADD', { netns, containerId }), 4, /CNI_CONTAINERID/)
  }
  for (const name of [`${longest}x`, '.a', '-a', '_a', 'a b', 'ä', 'a\n']) {
    expectError(await a.cni('ADD', { ...call, config: a.node.config({ name }) }), 7, /name/)
  }
  expectSuccess(await a.cni('DEL', { config: a.node.config({ name: longest }) }))
  expect(await links(netns)).toEqual(['lo'])
})

test('4 one document on stdout or none, an exit code that agrees, errors with version, code, message, details', async () => {
  cases.expectPassed('04', '04-stdout', '04-error-document', '04-stderr-unread', '04-own-netns')
  const netns = await a.netns()
  const call = { netns, containerId: a.newId() }
  const of = (extra: Record<string, unknown>) => a.node.config(extra)
  const nobody = of({ socket: '/run/hawser-none/s' })
  const refusals: [code: number, Promise<CniAnswer>][] = [
    [1, a.cni('ADD', { ...call, config: of({ cniVersion: '7.0.0' }) })],
    [4, a.cni('ADD', { ...call, netns: '/dev/null' })],
    // A name that Linux keeps for itself: the kernel refuses the device.
    [5, a.cni('ADD', { ...call, ifname: 'all' })],
    [7, a.cni('ADD', { ...call, config: of({ mtu: -1 }) })],
    [8, a.cni('ADD', { ...call, netns: a.node.netns })],
    [11, a.cni('ADD', { ...call, config: nobody })],
    [50, a.cni('STATUS', { config: nobody })],
  ]
  for (const [code, asked] of refusals) {
    const { exit, json } = await asked
    expect(exit).toBe(1)
    const texts = { msg: expect.stringMatching(/./), details: expect.any(String) }
    expect(json).toEqual({ cniVersion: '1.1.0', code, ...texts })
  }
  const garbled = await run(EXECUTABLE, [], {
    netns: a.node.netns,
    env: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'x', CNI_IFNAME: 'eth0' },
    input: '{"cniVersion": "1.0.0"',
  })
  expect(JSON.parse(garbled.stdout)).toMatchObject({ code: 6 })
  expect(await links(netns)).toEqual(['lo'])
  // Nobody is told that a container is unknown: no DEL would follow.
  expectSuccess(await a.cni('DEL'))
  expectError(await a.cni('CHECK', { netns, config: of({ prevResult: {} }) }), 104)
})

test('5 the answer is of the version that stdin asks for, with its keys and no newer ones', async () => {
  cases.expectPassed('05', '05-result-form', '05-result-version', '05-unknown-version')
  const shape = async (cniVersion: string) => {
    const config = a.node.config({ cniVersion, attach: 'xdp' })
    const { exit, json } = await a.cni('ADD', { netns: await a.netns(), config })
    expect(exit).toBe(0)
    return json as {
      ips?: { version?: string }[]
      interfaces?: { mtu?: number }[]
      ip4?: object
    }
  }
  for (const version of ['0.3.0', '0.3.1', '0.4.0']) {
    const { ips, interfaces } = await shape(version)
    expect(ips!.map(each => each.version)).toEqual(['4', '6'])
    expect(interfaces!.some(each => 'mtu' in each)).toBe(false)
  }
  const newer = [await shape('1.0.0'), await shape('1.1.0')]
  expect(newer.flatMap(each => each.ips!.map(ip => 'version' in ip))).not.toContain(true)
  expect(newer.map(each => each.interfaces!.every(link => 'mtu' in link))).toEqual([false, true])
  expect(Object.keys(await shape('0.2.0')).sort()).toEqual(['cniVersion', 'dns', 'ip4', 'ip6'])
})

test('6 VERSION needs nothing, and no CNI_COMMAND is a question of a person', () => {
  cases.expectPassed(
    '06',
    ...['06-version-with-only-its-version', '06-version-empty-stdin', '06-version-null-stdin'],
    ...['06-version-other-variables', '06-no-command'],
  )
})

test('7 what is not ours is passed over, prevResult is kept', async () => {
  cases.expectPassed(
    '07',
    '07-args-unknown',
    '07-capabilities',
    '07-prev-result-kept',
    '07-unknown-keys',
  )
  const odd = {
    'cni.dev/valid-attachments': [{ containerID: 'x', ifname: 'eth0' }],
    'cni.dev/attachments': null,
    capabilities: { portMappings: true, nobodys: true, 'io.kubernetes.cri.pod-annotations': true },
    runtimeConfig: {
      nobodys: { deep: [1, { more: null }] },
      aliases: { hawser: ['x'] },
      deviceID: '0000:00:1f.6',
      cgroupPath: '/kubepods/burstable/pod7',
      infinibandGUID: 'c2:11:22:33:44:55:66:77',
    },
    args: { cni: { labels: [{ key: 'a', value: 'b' }] } },
    ipMasq: true,
  }
  const netns = await a.netns()
  const call = { netns, containerId: a.newId(), args: 'IgnoreUnknown=1;A=B;=;;X;Y=1=2' }
  const config = a.node.config(odd)
  const added = await a.cni('ADD', { ...call, config })
  expect(added.exit).toBe(0)
  const prevResult = added.json
  expectSuccess(await a.cni('CHECK', { ...call, config: { ...config, prevResult } }))
  expectSuccess(await a.cni('STATUS', { config }))
  expectSuccess(await a.cni('DEL', { ...call, config: { ...config, prevResult } }))
})

test('8 the conflist names no version that the executable lacks', async () => {
  cases.expectPassed('08')
  const shipped = new URL('../../cni/deploy/10-hawser.conflist', import.meta.url)
  const { cniVersion, cniVersions } = JSON.parse(readFileSync(shipped, 'utf8'))
  const { json } = await a.cni('VERSION')
  expect(json['supportedVersions']).toEqual(
    expect.arrayContaining([cniVersion, ...(cniVersions ?? [])]),
  )
})
