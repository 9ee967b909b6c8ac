/** What ADD answers, and whether it is so in the kernel (contract 5, 9, 10, 12). */

import { once } from 'node:events'
import { isIPv6 } from 'node:net'
import type { Case } from '../case.ts'
import type { Attached, Context } from '../context.ts'
import { Failed } from '../failed.ts'
import { interfaces, routes } from '../namespaces.ts'
import { SYSTEM_PATH, start } from '../process.ts'
import { atLeast, type SpecVersion } from '../versions.ts'

/** A case that looks at an attachment. */
function shows(
  id: string,
  name: string,
  look: (attached: Attached, context: Context) => string | Promise<string>,
  more: Partial<Case> = {},
): Case {
  return {
    ...{ id, name, runs: 'each', ...more },
    run: async context => {
      const attached = await context.add()
      const seen = await look(attached, context)
      await context.del(attached)
      return seen
    },
  }
}

/** Since which version, and until which, a key may be in a result. `ips[].version` must be there as long as it may. */
const KEYS: readonly [list: string, key: string, since: SpecVersion, until: SpecVersion][] = [
  ['ips', 'version', '0.3.0', '0.4.0'],
  ['interfaces', 'mtu', '1.1.0', '1.1.0'],
  ['interfaces', 'socketPath', '1.1.0', '1.1.0'],
  ['interfaces', 'pciID', '1.1.0', '1.1.0'],
  ...['mtu', 'advmss', 'priority', 'table', 'scope'].map(
    key => ['routes', key, '1.1.0', '1.1.0'] as [string, string, SpecVersion, SpecVersion],
  ),
]
const OLD_FORM = ['cniVersion', 'ip4', 'ip6', 'dns']
const NEW_FORM = ['cniVersion', 'interfaces', 'ips', 'routes', 'dns']

function form({ document }: Attached, { version }: Context): string {
  const allowed = atLeast(version, '0.3.0') ? NEW_FORM : OLD_FORM
  const odd = Object.keys(document).filter(key => !allowed.includes(key))
  if (odd.length > 0) throw new Failed(`a result of ${version} has no key ${odd.join(', ')}`)
  for (const [list, key, since, until] of KEYS) {
    if (!atLeast(version, '0.3.0')) break
    const items = (document[list] ?? []) as Record<string, unknown>[]
    const may = atLeast(version, since) && atLeast(until, version)
    if (!may && items.some(item => key in item)) {
      throw new Failed(`a result of ${version} has no ${list}[].${key}`)
    }
    if (may && key === 'version') {
      const wrong = items.find(item => item[key] !== (isSix(item['address']) ? '6' : '4'))
      if (wrong !== undefined) throw new Failed(`ips[].version is ${String(wrong[key])}`)
    }
  }
  return `it has ${Object.keys(document).join(', ')}`
}

function isSix(address: unknown): boolean {
  return String(address).includes(':')
}

/** The pod's own interface in the result: of its name, with a sandbox. */
function ownInterface({ pod, result }: Attached) {
  const own = result.interfaces.find(each => each.name === pod.ifname && each.sandbox !== '')
  if (own === undefined) throw new Failed(`the result has no interface ${pod.ifname} of a sandbox`)
  return own
}

export const result: readonly Case[] = [
  shows('05-result-version', 'the result has the cniVersion asked for', ({ document }, context) => {
    const answered = document['cniVersion']
    if (answered !== context.version) throw new Failed(`it answered in ${String(answered)}`)
    return `answered in ${context.version}`
  }),
  shows('05-result-form', 'the result has the keys of its version, and no others', form),
  shows(
    '10-result-interface',
    "the pod's interface has its sandbox, and nothing on the node has one",
    async (attached, context) => {
      const own = ownInterface(attached)
      if (own.sandbox !== attached.pod.netns) throw new Failed(`the sandbox is ${own.sandbox}`)
      const there = (await interfaces(context.node)).map(each => each.name)
      const onNode = attached.result.interfaces.filter(each => each.sandbox === '')
      const missing = onNode.filter(each => !there.includes(each.name)).map(each => each.name)
      if (missing.length > 0) throw new Failed(`the node has no ${missing.join(', ')}`)
      return `${own.name} in the sandbox, ${onNode.length} on the node`
    },
    { since: '0.3.0' },
  ),
  shows(
    '10-result-indexes',
    "each address names the pod's interface, by an index that is in range",
    ({ pod, result: { interfaces: listed, ips } }) => {
      for (const { address, interface: index } of ips) {
        if (index === undefined) throw new Failed(`${address} names no interface`)
        const named = listed[index]
        if (named === undefined) {
          throw new Failed(`${address} has index ${index} of ${listed.length} interfaces`)
        }
        if (named.name !== pod.ifname) throw new Failed(`${address} is on ${named.name}`)
      }
      return `${ips.length} addresses, ${listed.length} interfaces`
    },
    { since: '0.3.0' },
  ),
  shows(
    '10-result-mac',
    "the result has the interface's MAC, if it has one",
    async (attached, context) => {
      const { mac } = await context.interfaceOf(attached.pod)
      const answered = ownInterface(attached).mac.toLowerCase()
      if (answered !== mac) throw new Failed(`answered "${answered}", the interface has "${mac}"`)
      return mac === '' ? 'the interface has none' : mac
    },
    { since: '0.3.0' },
  ),
  shows(
    '10-result-mtu',
    "the result has the interface's MTU",
    async (attached, context) => {
      const { mtu } = await context.interfaceOf(attached.pod)
      const answered = ownInterface(attached).mtu
      if (answered !== mtu) throw new Failed(`answered ${answered}, the interface has ${mtu}`)
      return String(mtu)
    },
    { since: '1.1.0' },
  ),
  shows(
    '10-result-addresses',
    'the interface has the addresses of the result, with their prefixes, and no others',
    async ({ pod, result: { ips } }, context) => {
      const { addresses } = await context.interfaceOf(pod)
      const there = addresses.map(({ address, prefix }) => `${address}/${prefix}`).sort()
      const answered = ips.map(each => each.cidr).sort()
      if (answered.length === 0) throw new Failed('the result has no address')
      if (answered.join() !== there.join()) {
        throw new Failed(`answered ${answered.join(', ')}, there: ${there.join(', ') || 'none'}`)
      }
      return answered.join(', ')
    },
  ),
  shows(
    '10-result-routes',
    'the pod has the routes of the result',
    async ({ pod, result: { routes: answered } }) => {
      const there = (await routes(pod.netns)).map(each => each.dst)
      const missing = answered.filter(({ dst }) => !there.includes(dst)).map(each => each.dst)
      if (missing.length > 0) throw new Failed(`the pod has no route to ${missing.join(', ')}`)
      return answered.map(each => each.dst).join(', ') || 'no routes'
    },
  ),
  shows(
    '10-link-up',
    'the interface is up, and no other one came into the pod',
    async ({ pod }, context) => {
      const { up } = await context.interfaceOf(pod)
      if (!up) throw new Failed(`${pod.ifname} is down`)
      const names = (await interfaces(pod.netns)).map(each => each.name)
      if (names.length !== 2) throw new Failed(`the pod has ${names.join(', ')}`)
      return names.join(', ')
    },
  ),
  shows(
    '09-name-on-node',
    "nothing on the node has the name of the pod's interface",
    async ({ pod, result: { interfaces: listed } }, context) => {
      const names = (await interfaces(context.node)).map(each => each.name)
      if (names.includes(pod.ifname)) throw new Failed(`the node has an interface ${pod.ifname}`)
      const twice = listed.filter(each => each.name === pod.ifname).length
      if (twice > 1) throw new Failed(`the result has ${twice} interfaces ${pod.ifname}`)
      return names.join(', ')
    },
  ),
  shows(
    '12-no-tentative',
    'no address waits for duplicate address detection when ADD answers',
    async ({ pod, result: { ips } }, context) => {
      const { addresses } = await context.interfaceOf(pod)
      const waiting = addresses.filter(each => each.tentative).map(each => each.address)
      if (waiting.length > 0) throw new Failed(`${waiting.join(', ')} is tentative`)
      return `${ips.filter(each => isIPv6(each.address)).length} IPv6 addresses, none tentative`
    },
  ),
  {
    id: '12-pods-talk',
    name: 'right behind ADD one pod reaches another by TCP, in each family',
    runs: 'once',
    run: async context => {
      const [server, client] = [await context.add(), await context.add()]
      for (const { address } of server.result.ips) await talk(server, client, address)
      for (const each of [server, client]) await context.del(each)
      return server.result.ips.map(each => each.address).join(', ')
    },
  },
]

const TALK_MS = 10_000
const SERVE = `require('node:net').createServer(c => c.pipe(c)).listen(7777, process.argv[1], () => console.log('ready'))`
const ASK = `require('node:net').connect(7777, process.argv[1]).on('data', () => process.exit(0)).on('error', e => { console.error(e.message); process.exit(1) }).write('x')`

async function talk(server: Attached, client: Attached, address: string): Promise<void> {
  const at = (netns: string) => ({ netns, timeoutMs: TALK_MS, env: { PATH: SYSTEM_PATH } })
  const served = start(process.execPath, ['-e', SERVE, address], at(server.pod.netns))
  try {
    await Promise.race([once(served.child.stdout!, 'data'), served.ended])
    const asked = await start(process.execPath, ['-e', ASK, address], at(client.pod.netns)).ended
    if (asked.code !== 0) {
      throw new Failed(
        `${address} is not reached: ${asked.late ? 'no answer' : asked.stderr.trim()}`,
      )
    }
  } finally {
    served.child.kill('SIGKILL')
    await served.ended
  }
}
