/** Before and behind plugins that runtimes chain (contract 7, 8): a chain as libcni drives it. */

import { type Answer, succeeded } from '../answer.ts'
import { type Case, Skipped } from '../case.ts'
import type { Companion, Context, Pod } from '../context.ts'
import { Failed } from '../failed.ts'
import { start } from '../process.ts'
import { readResult } from '../result.ts'
import { type Config, findPlugin } from '../subject.ts'
import { atLeast } from '../versions.ts'

/** Plugins to be chained with, and what makes them do something. */
const COMPANIONS: Readonly<Record<string, Config>> = {
  portmap: {
    capabilities: { portMappings: true },
    runtimeConfig: {
      portMappings: [{ hostPort: 18_081, containerPort: 80, protocol: 'tcp' }],
    },
  },
  tuning: { sysctl: { 'net.core.somaxconn': '511' } },
  firewall: { backend: 'iptables' },
}

/** `undefined` is the plugin itself. */
type Link = Companion | undefined

async function companion(context: Context, type: string): Promise<Companion> {
  const { cniPath } = context.subject
  const file = findPlugin(cniPath, type)
  if (file === undefined) throw new Skipped(`${type} is not in ${cniPath.join(', ')}`)
  const ended = await start(file, [], {
    netns: context.node,
    env: { CNI_COMMAND: 'VERSION' },
    stdin: JSON.stringify({ cniVersion: '1.0.0' }),
    timeoutMs: context.timeoutMs,
  }).ended
  if (!ended.stdout.includes(JSON.stringify(context.version))) {
    throw new Skipped(`${type} does not list ${context.version}`)
  }
  return { file, config: { type, ...COMPANIONS[type] } }
}

function nameOf(link: Link, context: Context): string {
  return String((link?.config ?? context.subject.config)['type'])
}

function call(
  context: Context,
  verb: string,
  pod: Pod,
  link: Link,
  prevResult: unknown,
): Promise<Answer> {
  return context.call(verb, pod, {
    config: { prevResult },
    ...(link === undefined ? {} : { companion: link }),
  })
}

/** ADD along `links`, CHECK of the plugin, DEL twice backwards; the pod's interface is there between. */
async function drive(context: Context, links: readonly Link[]): Promise<string> {
  const before = await context.inventory()
  const pod = await context.pod()
  let result: Record<string, unknown> | undefined
  for (const link of links) {
    const answer = await call(context, 'ADD', pod, link, result)
    succeeded(answer, `${nameOf(link, context)}: `)
    if (answer.document === undefined) throw new Failed(`${nameOf(link, context)}: no result`)
    result = answer.document
  }
  await context.interfaceOf(pod)
  const { interfaces, ips } = readResult(context.version, result!)
  const own = interfaces.find(({ name, sandbox }) => name === pod.ifname && sandbox !== '')
  if (own === undefined) throw new Failed(`the chain's result has no interface ${pod.ifname}`)
  if (!ips.some(ip => interfaces[ip.interface ?? -1] === own)) {
    throw new Failed(`the chain's result has no address on ${pod.ifname}`)
  }
  // Whether the others find fault with their own work is not the plugin's.
  if (atLeast(context.version, '0.4.0')) {
    succeeded(await call(context, 'CHECK', pod, undefined, result))
  }
  const backwards = [...links].reverse()
  for (const link of [...backwards, ...backwards]) {
    succeeded(await call(context, 'DEL', pod, link, result), `${nameOf(link, context)}: `)
  }
  await context.clean(before, [pod])
  return links.map(link => nameOf(link, context)).join(', ')
}

export const chain: readonly Case[] = Object.keys(COMPANIONS).flatMap((type): Case[] => [
  {
    id: `07-chain-before-${type}`,
    name: `a chain of the plugin, then ${type}: ADD, CHECK, and DEL twice`,
    runs: 'each',
    since: '0.3.0',
    run: async context => drive(context, [undefined, await companion(context, type)]),
  },
  {
    id: `07-chain-behind-${type}`,
    name: `a chain of loopback, ${type}, then the plugin: ADD, CHECK, and DEL twice`,
    runs: 'each',
    since: '0.3.0',
    run: async context => {
      const [loopback, other] = [
        await companion(context, 'loopback'),
        await companion(context, type),
      ]
      return drive(context, [loopback, other, undefined])
    },
  },
])
