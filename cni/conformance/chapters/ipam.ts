/**
 * IPAM plugins (contract 11, 21): a delegate of the runner's own stands in the place of the
 * configuration's `ipam.type`, does as it is told, and writes down what it was asked. A plugin whose
 * configuration has none may do without delegates; that shows when one is offered and not asked.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { join } from 'node:path'
import { refused, succeeded, told } from '../answer.ts'
import { type Case, Skipped } from '../case.ts'
import type { CallOptions, Context } from '../context.ts'
import { Failed } from '../failed.ts'
import type { ResultIp } from '../result.ts'
import { atLeast } from '../versions.ts'

const TYPE = 'hwc-delegate'
const SAYING = 'the delegate speaks'
type Behaviour = 'good' | 'refuse' | 'rubbish' | 'no-address'

/** The delegate: CommonJS, run by the runner's own Node. Its folder holds what it shall do, and what it was asked. */
const DELEGATE = `#!${process.execPath}
const fs = require('node:fs')
const config = JSON.parse(fs.readFileSync(0, 'utf8'))
const { CNI_COMMAND: verb, CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: ifname } = process.env
const behaviour = fs.readFileSync(__dirname + '/behaviour', 'utf8')
fs.appendFileSync(__dirname + '/asked', JSON.stringify({ verb, id, netns, ifname, config }) + '\\n')
process.stderr.write('${SAYING}\\n')
const { cniVersion } = config
const ip = JSON.parse(fs.readFileSync(__dirname + '/address', 'utf8'))
const old = /^0\\.[12]\\./.test(cniVersion)
const family = /^0\\./.test(cniVersion) ? { version: '4' } : {}
if (verb !== 'ADD') process.exit(0)
if (behaviour === 'refuse') {
  console.log(JSON.stringify({ cniVersion, code: 11, msg: 'no address left' }))
  process.exit(1)
}
if (behaviour === 'rubbish') console.log('here is your address: ' + ip.address)
else if (behaviour === 'no-address') console.log(JSON.stringify(old ? { cniVersion } : { cniVersion, ips: [] }))
else if (old) console.log(JSON.stringify({ cniVersion, ip4: { ip: ip.address, gateway: ip.gateway } }))
else console.log(JSON.stringify({ cniVersion, ips: [{ ...family, address: ip.address, gateway: ip.gateway }] }))
`

interface Delegate {
  /** The address that it gives. */
  cidr: string
  /** How the plugin is called with it. */
  options: CallOptions
  asked: () => Asked[]
}

interface Asked {
  verb: string
  id: string
  netns: string
  ifname: string
  config: Record<string, unknown>
}

/** What the delegate gives out: an address that fits the network, since it was just given back. */
async function address(context: Context): Promise<ResultIp> {
  const known = context.memo.get('delegate') as ResultIp | undefined
  if (known !== undefined) return known
  const attached = await context.add()
  await context.del(attached)
  const ip = attached.result.ips.find(each => isIPv4(each.address))
  if (ip === undefined) throw new Skipped('the network has no IPv4 address')
  context.memo.set('delegate', ip)
  return ip
}

/** The delegate with a behaviour: how the plugin is called with it, and what it was asked since. */
async function delegate(context: Context, behaviour: Behaviour): Promise<Delegate> {
  const { config } = context.subject
  const ipam = config['ipam'] as { type?: unknown } | undefined
  const configured = typeof ipam?.type === 'string' && ipam.type !== ''
  if (!configured && !(await asksDelegates(context))) {
    throw new Skipped("the plugin's configuration has no ipam.type, and it asks none that it gets")
  }
  return prepared(context, behaviour)
}

/** Whether the plugin asks a delegate that is offered to it in an ADD, whatever becomes of that. */
async function asksDelegates(context: Context): Promise<boolean> {
  const known = context.memo.get('delegates') as boolean | undefined
  if (known !== undefined) return known
  const { options, asked } = await prepared(context, 'good')
  const pod = await context.pod()
  await context.call('ADD', pod, options)
  const asks = asked().length > 0
  await context.call('DEL', pod, options)
  context.memo.set('delegates', asks)
  return asks
}

async function prepared(context: Context, behaviour: Behaviour): Promise<Delegate> {
  const { cniPath } = context.subject
  const { cidr, gateway } = await address(context)
  const folder = join(context.folder, 'delegate')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, TYPE)
  if (!existsSync(file)) writeFileSync(file, DELEGATE, { mode: 0o755 })
  writeFileSync(join(folder, 'behaviour'), behaviour)
  writeFileSync(join(folder, 'asked'), '')
  writeFileSync(join(folder, 'address'), JSON.stringify({ address: cidr, gateway }))
  return {
    cidr,
    options: {
      config: { ipam: { type: TYPE } },
      env: { CNI_PATH: [folder, ...cniPath].join(':') },
    },
    asked: () =>
      readFileSync(join(folder, 'asked'), 'utf8')
        .split('\n')
        .filter(line => line !== '')
        .map(line => JSON.parse(line) as Asked),
  }
}

/** An ADD that must be refused because of its delegate, and leave nothing. */
function fails(
  id: string,
  name: string,
  behaviour: Behaviour,
  look: (asked: readonly Asked[]) => void = () => {},
): Case {
  return {
    ...{ id, name, runs: 'each' },
    run: async context => {
      const { options, asked } = await delegate(context, behaviour)
      const before = await context.inventory()
      const pod = await context.pod()
      const answer = await context.call('ADD', pod, options)
      refused(answer)
      look(asked())
      await context.clean(before, [pod])
      await context.del(pod, options)
      return told(answer)
    },
  }
}

export const ipam: readonly Case[] = [
  {
    id: '21-delegate-asked',
    name: 'the delegate is asked for ADD, CHECK and DEL, with the environment and the whole configuration',
    runs: 'each',
    run: async context => {
      const { cidr, options, asked } = await delegate(context, 'good')
      const attached = await context.add(undefined, options)
      const { addresses } = await context.interfaceOf(attached.pod)
      if (!addresses.some(({ address, prefix }) => `${address}/${prefix}` === cidr)) {
        throw new Failed(`the interface lacks the delegate's ${cidr}`)
      }
      const checked = atLeast(context.version, '0.4.0')
      if (checked) succeeded(await context.check(attached, options))
      await context.del(attached, options)
      const verbs = asked().map(each => each.verb)
      const expected = checked ? ['ADD', 'CHECK', 'DEL'] : ['ADD', 'DEL']
      if (verbs.join() !== expected.join()) throw new Failed(`it was asked for ${verbs.join(', ')}`)
      for (const { verb, id, netns, ifname, config } of asked()) {
        const { pod } = attached
        const { network, config: own } = context.subject
        if (id !== pod.containerId || netns !== pod.netns || ifname !== pod.ifname) {
          throw new Failed(`its ${verb} had another environment`)
        }
        if (config['name'] !== network || config['type'] !== own['type']) {
          throw new Failed(`its ${verb} had not the whole configuration`)
        }
      }
      return verbs.join(', ')
    },
  },
  {
    id: '21-delegate-stderr',
    name: "what the delegate says on stderr comes out of the plugin's",
    runs: 'once',
    run: async context => {
      const { options } = await delegate(context, 'good')
      const pod = await context.pod()
      const answer = await context.call('ADD', pod, options)
      succeeded(answer)
      if (!answer.stderr.includes(SAYING)) throw new Failed('it does not')
      await context.del(pod, options)
      return 'it does'
    },
  },
  fails(
    '21-delegate-refuses',
    'a delegate that refuses makes ADD fail, and nothing is left',
    'refuse',
  ),
  fails(
    '21-delegate-rubbish',
    'a delegate that answers rubbish makes ADD fail, and nothing is left',
    'rubbish',
  ),
  fails(
    '11-delegate-undone',
    "when ADD fails behind the delegate's ADD, its DEL is called",
    'no-address',
    asked => {
      const verbs = asked.map(each => each.verb)
      if (!verbs.includes('DEL')) throw new Failed(`it was asked for ${verbs.join(', ')} only`)
    },
  ),
  {
    id: '21-delegate-missing',
    name: 'a delegate that is not there makes ADD fail, and nothing is left',
    runs: 'each',
    run: async context => {
      const { options } = await delegate(context, 'good')
      const before = await context.inventory()
      const pod = await context.pod()
      const env = { CNI_PATH: context.folder }
      const answer = await context.call('ADD', pod, { ...options, env })
      refused(answer)
      await context.clean(before, [pod])
      return told(answer)
    },
  },
]
