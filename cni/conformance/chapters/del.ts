/** DEL forgives (contract 15): whatever is missing, it succeeds, and removes what is there. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { succeeded } from '../answer.ts'
import type { Case } from '../case.ts'
import type { Attached, Context } from '../context.ts'
import { tool } from '../process.ts'
import { specVersions } from '../versions.ts'

/** A DEL, tried on an attachment, that must remove all of it. */
function removes(
  id: string,
  name: string,
  del: (context: Context, attached: Attached) => Promise<void>,
  more: Partial<Case> = {},
): Case {
  return {
    ...{ id, name, runs: 'each', ...more },
    run: async context => {
      const before = await context.inventory()
      const attached = await context.add()
      await del(context, attached)
      await context.clean(before, [attached.pod])
      return 'it succeeded, and nothing is left'
    },
  }
}

/** A DEL that must succeed; without a namespace a plugin can't always remove the interface. */
function succeeds(
  id: string,
  name: string,
  del: (context: Context, attached: Attached) => Promise<void>,
): Case {
  return {
    ...{ id, name, runs: 'each' },
    run: async context => {
      await del(context, await context.add())
      return 'it succeeded'
    },
  }
}

export const del: readonly Case[] = [
  removes('15-del-twice', 'a second DEL succeeds', async (context, attached) => {
    await context.del(attached)
    await context.del(attached)
  }),
  removes('15-del-at-once', 'two DELs at the same time succeed', async (context, attached) => {
    await Promise.all([context.del(attached), context.del(attached)])
  }),
  removes('15-del-without-prevresult', 'DEL succeeds without prevResult', (context, { pod }) =>
    context.del(pod),
  ),
  removes(
    '15-del-other-config',
    'DEL succeeds with another configuration of that network',
    (context, attached) => {
      const runtimeConfig = { portMappings: [] }
      const dns = { nameservers: ['192.0.2.53'] }
      const config = { mtu: 1300, dns, runtimeConfig, prevResult: undefined, zz: null }
      return context.del(attached, { config })
    },
  ),
  removes(
    '15-del-other-version',
    'DEL succeeds in another version than ADD',
    async (context, { pod }) => {
      const listed = (await context.call('VERSION')).document?.['supportedVersions']
      const versions = specVersions(Array.isArray(listed) ? listed.map(String) : [])
      const other = versions.find(each => each !== context.version) ?? context.version
      await context.del(pod, { version: other })
    },
  ),
  removes(
    '15-del-interface-gone',
    'DEL succeeds when the interface is gone',
    async (context, attached) => {
      const { netns, ifname } = attached.pod
      await tool('ip', ['link', 'delete', ifname], netns)
      await context.del(attached)
    },
  ),
  removes(
    '15-del-interface-down',
    'DEL succeeds when the interface is down',
    async (context, attached) => {
      const { netns, ifname } = attached.pod
      await tool('ip', ['link', 'set', ifname, 'down'], netns)
      await context.del(attached)
    },
  ),
  succeeds('15-del-empty-netns', 'DEL succeeds with an empty CNI_NETNS', (context, attached) =>
    context.del(attached, { env: { CNI_NETNS: '' } }),
  ),
  succeeds('15-del-without-netns', 'DEL succeeds without CNI_NETNS', (context, attached) =>
    context.del(attached, { env: { CNI_NETNS: undefined } }),
  ),
  succeeds(
    '15-del-dead-netns',
    'DEL succeeds when the namespace is gone',
    async (context, attached) => {
      await context.lose(attached.pod)
      await context.del(attached)
    },
  ),
  succeeds(
    '15-del-netns-is-a-file',
    'DEL succeeds when only the file of the namespace is left, as behind a reboot',
    async (context, attached) => {
      await context.lose(attached.pod)
      const file = join(context.folder, 'cni-namespace')
      writeFileSync(file, '')
      await context.del(attached, { env: { CNI_NETNS: file } })
    },
  ),
  {
    id: '15-del-unknown',
    name: 'DEL succeeds for what was never added',
    runs: 'each',
    run: async context => {
      const pod = await context.pod()
      await context.del(pod)
      await context.del({ ...pod, ifname: 'net7' })
      return 'it succeeded for two interfaces'
    },
  },
  {
    id: '15-del-unknown-dead-netns',
    name: 'DEL succeeds for what was never added, in a namespace that never was',
    runs: 'each',
    run: async context => {
      const containerId = randomBytes(32).toString('hex')
      const netns = '/run/netns/hwc-no-such-namespace'
      const answer = await context.call('DEL', { containerId, netns, ifname: 'eth0' })
      succeeded(answer)
      return 'it succeeded'
    },
  },
  {
    id: '15-add-behind-del',
    name: 'behind DEL the same container is added again',
    runs: 'each',
    run: async context => {
      const first = await context.add()
      await context.del(first)
      const second = await context.add(first.pod)
      await context.interfaceOf(second.pod)
      await context.del(second)
      return `${first.result.ips[0]?.address}, then ${second.result.ips[0]?.address}`
    },
  },
]
