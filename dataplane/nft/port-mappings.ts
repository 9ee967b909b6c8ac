/**
 * Ports of the node that lead to pods, by one nftables table that is ours alone and written whole in
 * one transaction: maps from (protocol, address, port) to a pod's address and port.
 *
 *     from outside, from pods ── prerouting ─┐                        ┌─ postrouting ── host device ── pod
 *     from the node itself ─────── output ───┴─ local address? ─ maps ┘  (masquerade)
 *
 * Only what is sent to one of the node's own addresses is translated. Answers must come back through
 * the kernel, which undoes the translation; those to pods of the cluster would take the engine's
 * straight way, and 127.0.0.1 is no address that a pod could answer to, so the sources of both are
 * masqueraded. What comes from outside keeps its source.
 *
 * For 127.0.0.1 the host device has `route_localnet` while there are mappings; packets of pods to or
 * from 127.0.0.0/8 are dropped before anything else, so nothing but answers to the node profits.
 * ::1 has no such switch in Linux and is not mapped.
 */
import { ipWords, parseCidr, wordsToIp } from '../addresses.ts'
import type { PodPorts, PortMapping } from '../control.ts'
import { setSwitch } from '../switches.ts'
import { applyRules, listRules } from './nft.ts'

const TABLE = 'inet hawser_ports'
const PROTOCOLS: readonly string[] = ['tcp', 'udp', 'sctp']
/** Without it nft knows neither what `th` is nor the type of a flow's port. */
const PORTED = `meta l4proto { ${PROTOCOLS.join(', ')} }`

/** Hook priorities of linux/netfilter_ipv4.h; nft knows their names in some hooks only. */
const RAW = -300
const DSTNAT = -100
const SRCNAT = 100

interface Element {
  family: 4 | 6
  /** `tcp . 192.0.2.1 . 80`, without the address for every local one. */
  key: string
  everywhere: boolean
  target: string
  port: number
}

/** Rules for the mappings of `pods`, whose node has `hostDevice` and whose cluster these prefixes. Throws RangeError. */
export function portMappingRules(
  hostDevice: string,
  cluster: readonly string[],
  pods: readonly PodPorts[],
): string {
  if (!/^[A-Za-z0-9._-]{1,15}$/.test(hostDevice)) {
    throw new RangeError(`device name ${JSON.stringify(hostDevice)}`)
  }
  const none = `table ${TABLE} {}\ndelete table ${TABLE}\n`
  const elements = pods.flatMap(elementsOf)
  if (elements.length === 0) return none
  const maps: string[] = []
  const translate: string[] = []
  const masquerade: string[] = []
  for (const [family, ip, type] of [
    [4, 'ip', 'ipv4_addr'],
    [6, 'ip6', 'ipv6_addr'],
  ] as const) {
    const own = elements.filter(each => each.family === family)
    if (own.length === 0) continue
    // One address goes before all of them.
    for (const [everywhere, name, address, match] of [
      [false, `one${family}`, ` . ${type}`, ` . ${ip} daddr`],
      [true, `any${family}`, '', ''],
    ] as const) {
      const here = own.filter(each => each.everywhere === everywhere)
      if (here.length === 0) continue
      const list = here.map(({ key, target }) => `${key} : ${target}`).join(', ')
      maps.push(
        `map ${name} {\n  type inet_proto${address} . inet_service : ${type} . inet_service\n  elements = { ${list} }\n }`,
      )
      translate.push(
        `meta nfproto ipv${family} ${PORTED} dnat ${ip} to meta l4proto${match} . th dport map @${name}`,
      )
    }
    const prefixes = cluster.filter(text => parseCidr(text).family === family)
    if (family === 4) prefixes.push('127.0.0.0/8')
    const ports = [...new Set(own.map(each => each.port))].join(', ')
    if (prefixes.length > 0) {
      masquerade.push(
        `oifname "${hostDevice}" ct status dnat ${PORTED} ct original proto-dst { ${ports} } ${ip} saddr { ${prefixes.join(', ')} } masquerade`,
      )
    }
  }
  const chain = (name: string, lines: readonly string[]): string =>
    `chain ${name} {\n  ${lines.join('\n  ')}\n }`
  const nat = (hook: string, priority: number): string =>
    `type nat hook ${hook} priority ${priority}; policy accept;`
  const parts = [
    ...maps,
    chain('loopback', [
      `type filter hook prerouting priority ${RAW}; policy accept;`,
      `iifname "${hostDevice}" ip saddr 127.0.0.0/8 drop`,
      `iifname "${hostDevice}" ip daddr 127.0.0.0/8 drop`,
    ]),
    chain('translate', translate),
    chain('prerouting', [nat('prerouting', DSTNAT), 'fib daddr type local jump translate']),
    chain('output', [
      nat('output', DSTNAT),
      'ip6 daddr ::1 return',
      'fib daddr type local jump translate',
    ]),
    chain('postrouting', [nat('postrouting', SRCNAT), ...masquerade]),
  ]
  return `${none}table ${TABLE} {\n ${parts.join('\n ')}\n}\n`
}

/** One for each family that both the mapping and the pod have. */
function elementsOf({ ip4, ip6, mappings }: PodPorts): Element[] {
  return mappings.flatMap(mapping => {
    const { protocol, hostPort, containerPort, hostIP } = mapping
    for (const port of [hostPort, containerPort]) {
      if (!(Number.isInteger(port) && port >= 1 && port <= 0xffff)) {
        throw new RangeError(`port ${port} is not in 1 .. 65535`)
      }
    }
    if (!PROTOCOLS.includes(protocol)) throw new RangeError(`protocol ${protocol}`)
    const found: Element[] = []
    for (const [family, pod] of [
      [4, ip4],
      [6, ip6],
    ] as const) {
      if (pod === undefined || !familiesOf(mapping).includes(family)) continue
      const host = hostIP === undefined ? undefined : wordsToIp(ipWords(hostIP))
      const everywhere = host === undefined || isUnspecified(host)
      const address = wordsToIp(ipWords(pod))
      found.push({
        family,
        key: `${protocol} .${everywhere ? '' : ` ${host} .`} ${hostPort}`,
        everywhere,
        target: `${address} . ${containerPort}`,
        port: hostPort,
      })
    }
    return found
  })
}

/** The families that a mapping is for: its host address's, both without one. */
export function familiesOf({ hostIP }: PortMapping): readonly (4 | 6)[] {
  if (hostIP === undefined) return [4, 6]
  return [hostIP.includes(':') ? 6 : 4]
}

/** Whether a host address means every local address of its family. */
export function isUnspecified(hostIP: string): boolean {
  return hostIP === '0.0.0.0' || hostIP === '::'
}

/** What of the rules is the same whatever the mappings are. */
const ALWAYS = [
  'type filter hook prerouting',
  'type nat hook prerouting',
  'type nat hook output',
  'type nat hook postrouting',
  'fib daddr type local jump translate',
]

/** What `listing` (nft's, of the table) lacks of the rules for the mappings of `pods`: a sentence each. */
export function lackingRules(listing: string, pods: readonly PodPorts[]): string[] {
  const elements = pods.flatMap(elementsOf)
  if (elements.length === 0) return []
  if (listing === '') return [`port mappings: the nft table ${TABLE} is not there`]
  const parts = new Set(listing.split(/[{},\n]+/).map(part => part.trim()))
  const lacking = ALWAYS.filter(rule => !listing.includes(rule))
  for (const { family, key, everywhere, target } of elements) {
    const map = `@${everywhere ? 'any' : 'one'}${family}`
    if (!parts.has(`${key} : ${target}`)) lacking.push(`${key} : ${target}`)
    else if (!listing.includes(`dport map ${map}\n`)) lacking.push(`map ${map}`)
  }
  return [...new Set(lacking)].map(rule => `port mappings: the nft table ${TABLE} lacks ${rule}`)
}

/** What the kernel lacks of them now; somebody may have flushed its rules. Throws when nft is missing. */
export async function verifyPortMappings(pods: readonly PodPorts[]): Promise<string[]> {
  return lackingRules(await listRules('port mappings', `table ${TABLE}`), pods)
}

/** Puts the mappings in force, instead of those before. Throws when nft is missing or refuses them. */
export async function applyPortMappings(
  hostDevice: string,
  cluster: readonly string[],
  pods: readonly PodPorts[],
): Promise<void> {
  const rules = portMappingRules(hostDevice, cluster, pods)
  const loopback = (value: '0' | '1') =>
    setSwitch('', `ipv4/conf/${hostDevice}/route_localnet`, value)
  const wanted = pods.some(({ mappings }) => mappings.length > 0)
  // The rules that guard loopback are there whenever the switch is on.
  if (!wanted) loopback('0')
  await applyRules('port mappings', rules, 'run no pods with host ports here')
  if (wanted) loopback('1')
}
