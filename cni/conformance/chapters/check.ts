/** CHECK sees what changed, and only that (contract 18). */

import { refused, succeeded, told } from '../answer.ts'
import { type Case, Skipped } from '../case.ts'
import type { Attached, Context } from '../context.ts'
import { Failed } from '../failed.ts'
import { tool } from '../process.ts'

/** CHECK of an attachment that something was done to, and that must then be refused. */
function sees(
  id: string,
  name: string,
  spoil: (attached: Attached, context: Context) => Promise<unknown>,
): Case {
  return {
    ...{ id, name, runs: 'each', since: '0.4.0' },
    run: async context => {
      const attached = await context.add()
      succeeded(await context.check(attached), 'before: ')
      await spoil(attached, context)
      const answer = await context.check(attached)
      refused(answer)
      return told(answer)
    },
  }
}

function ip({ pod }: Attached, ...words: string[]): Promise<string> {
  return tool('ip', words, pod.netns)
}

export const check: readonly Case[] = [
  {
    id: '18-check-good',
    name: 'CHECK of what ADD answered succeeds, twice',
    runs: 'each',
    since: '0.4.0',
    run: async context => {
      const attached = await context.add()
      succeeded(await context.check(attached))
      succeeded(await context.check(attached))
      await context.del(attached)
      return 'it succeeded twice'
    },
  },
  {
    id: '18-check-foreign-route',
    name: 'routes and addresses that others added are fine',
    runs: 'each',
    since: '0.4.0',
    run: async context => {
      const attached = await context.add()
      const { ifname } = attached.pod
      await ip(attached, 'addr', 'add', '192.0.2.77/32', 'dev', ifname)
      await ip(attached, 'route', 'add', '198.51.100.0/24', 'dev', ifname)
      succeeded(await context.check(attached))
      await context.del(attached)
      return 'it succeeded'
    },
  },
  {
    id: '18-check-without-prevresult',
    name: 'CHECK without prevResult is refused',
    runs: 'each',
    since: '0.4.0',
    run: async context => {
      const attached = await context.add()
      const answer = await context.check(attached, { config: { prevResult: undefined } })
      refused(answer)
      await context.del(attached)
      return told(answer)
    },
  },
  {
    id: '18-check-unknown',
    name: 'CHECK of what was never added is refused',
    runs: 'each',
    since: '0.4.0',
    run: async context => {
      const attached = await context.add()
      const stranger = { ...attached, pod: await context.pod() }
      const answer = await context.check(stranger)
      refused(answer)
      await context.del(attached)
      return told(answer)
    },
  },
  sees('18-check-link-down', 'CHECK sees a link that is down', attached =>
    ip(attached, 'link', 'set', attached.pod.ifname, 'down'),
  ),
  sees('18-check-interface-gone', 'CHECK sees that the interface is gone', attached =>
    ip(attached, 'link', 'delete', attached.pod.ifname),
  ),
  sees('18-check-address-removed', 'CHECK sees that an address is gone', attached => {
    const { cidr } = attached.result.ips.at(-1)!
    return ip(attached, 'addr', 'del', cidr, 'dev', attached.pod.ifname)
  }),
  sees('18-check-route-removed', 'CHECK sees that a route is gone', attached => {
    const route = attached.result.routes.at(-1)
    if (route === undefined) throw new Skipped('the result has no route')
    const family = route.dst.includes(':') ? '-6' : '-4'
    return ip(attached, family, 'route', 'del', route.dst, 'dev', attached.pod.ifname)
  }),
  // A smaller one may be a later plugin's of the chain, which needn't be in a result.
  sees('18-check-mtu', 'CHECK sees a larger MTU', async (attached, context) => {
    const { mtu } = await context.interfaceOf(attached.pod)
    await ip(attached, 'link', 'set', attached.pod.ifname, 'mtu', String(mtu + 20))
  }),
  sees('18-check-mac', 'CHECK sees another MAC', async (attached, context) => {
    const { mac } = await context.interfaceOf(attached.pod)
    if (mac === '') throw new Skipped('the interface has no MAC')
    await ip(attached, 'link', 'set', attached.pod.ifname, 'address', '02:00:00:00:00:42')
  }),
  sees('18-check-behind-del', 'CHECK behind DEL is refused', (attached, context) =>
    context.del(attached),
  ),
  {
    id: '18-check-other-address',
    name: 'CHECK sees a prevResult with an address that is not there',
    runs: 'each',
    since: '0.4.0',
    run: async context => {
      const attached = await context.add()
      const ips = attached.document['ips']
      if (!Array.isArray(ips) || ips.length === 0) throw new Failed('the result has no ips')
      const changed = ips.map(each => ({ ...(each as object), address: '203.0.113.9/24' }))
      const config = { prevResult: { ...attached.document, ips: changed } }
      const answer = await context.check(attached, { config })
      refused(answer)
      await context.del(attached)
      return told(answer)
    },
  },
]
