/**
 * Rule sets in the format of ClassBench: D. E. Taylor, J. S. Turner, "ClassBench: A Packet
 * Classification Benchmark" (INFOCOM 2005). One rule a line, the first that matches wins:
 *
 *     @SOURCE/LENGTH DESTINATION/LENGTH FIRST : LAST FIRST : LAST PROTOCOL/MASK FLAGS/MASK
 *
 * Ports are decimal (source, then destination), protocol and flags hexadecimal. A protocol's mask is
 * 0x00 (any) or 0xff. The flags of protocol 1 are type and code (high and low byte); those of TCP
 * are not matched by any ACL of ours, so they are left out and counted. IPv6 addresses are taken too
 * (protocol 58 then has types), in a file of their own.
 */
import {
  type AclPrefix,
  type AclRule,
  MAX_RULE_ID,
  type PortRange,
} from '../../dataplane/acl/acl.ts'
import { checkRule, MAX_PORT, wordMask } from '../../dataplane/acl/rule.ts'
import { dataPath, Intake, isComment, lines } from './files.ts'
import { parseAddress } from './routes.ts'

/** The rule sets of the folder of outside data that benches take. */
export const RULE_SETS = [
  'acl1_1k',
  'fw1_1k',
  'ipc1_1k',
  'acl1_10k',
  'fw1_10k',
  'ipc1_10k',
] as const

/** Path of one of RULE_SETS; it need not be there. */
export function ruleSetPath(name: (typeof RULE_SETS)[number]): string {
  return dataPath(`rules/${name}${name.endsWith('_10k') ? '.gz' : ''}`)
}

export interface RuleFile {
  family: 4 | 6
  /** `id` is the rule's number in the file (from 1, refused ones are counted), `priority` one less. */
  rules: AclRule[]
  intake: Intake
  /** Rules taken without the flags (of TCP) that they ask for. */
  flagsLeftOut: number
}

const LINE = new RegExp(
  [
    /^@?([0-9a-fA-F.:]+)\/(\d{1,3})\s+([0-9a-fA-F.:]+)\/(\d{1,3})/,
    /\s+(\d{1,5})\s*:\s*(\d{1,5})\s+(\d{1,5})\s*:\s*(\d{1,5})/,
    /\s+0x([0-9a-fA-F]{1,2})\/0x([0-9a-fA-F]{1,2})/,
    /(?:\s+0x([0-9a-fA-F]{1,4})\/0x([0-9a-fA-F]{1,4}))?\s*$/,
  ]
    .map(part => part.source)
    .join(''),
)

/**
 * Reads a rule set. Blank lines and comments (`#`) count as neither taken nor refused. Refused, with
 * the reason: what is no such line, a rule that an ACL can't take (ports without a protocol that has
 * them, say), another family than the first rule's, and what comes behind MAX_RULE_ID rules. Bits
 * behind a prefix mean nothing and are cleared.
 */
export function readRules(path: string): RuleFile {
  const file: RuleFile = { family: 4, rules: [], intake: new Intake(path), flagsLeftOut: 0 }
  let id = 0
  for (const [i, line] of lines(path).entries()) {
    if (isComment(line)) continue
    const refused = take(line, ++id, file)
    if (refused === undefined) file.intake.taken++
    else file.intake.refuse(i + 1, line, refused)
  }
  return file
}

/** Appends the rule of a line; returns why not. */
function take(line: string, id: number, file: RuleFile): string | undefined {
  const parts = LINE.exec(line)
  if (parts === null) return 'no rule in the format of ClassBench'
  if (id > MAX_RULE_ID) return `more than ${MAX_RULE_ID} rules (MAX_RULE_ID)`
  const source = prefixOf(parts[1]!, Number(parts[2]))
  const destination = prefixOf(parts[3]!, Number(parts[4]))
  if (source === undefined || destination === undefined) return 'no prefix'
  const family = source.address.length === 1 ? 4 : 6
  if (destination.address.length !== source.address.length) return 'addresses of two families'
  if (file.rules.length === 0) file.family = family
  if (family !== file.family) return `the file's rules are IPv${file.family}`
  const [protocol, protocolMask, flags, flagsMask] = parts
    .slice(9)
    .map(hex => Number.parseInt(hex ?? '0', 16)) as [number, number, number, number]
  if (protocolMask !== 0 && protocolMask !== 255) return 'the mask of the protocol is partial'
  const fixed = protocolMask === 255
  const icmp = fixed && protocol === (family === 4 ? 1 : 58)
  if (icmp && ![0, 0xff00, 0xffff].includes(flagsMask))
    return 'the mask of type and code is partial'
  const sourcePorts = rangeOf(parts[5]!, parts[6]!)
  const destinationPorts = rangeOf(parts[7]!, parts[8]!)
  const rule: AclRule = {
    id,
    priority: id - 1,
    ...(source.prefix > 0 && { source }),
    ...(destination.prefix > 0 && { destination }),
    ...(fixed && { protocol }),
    ...(sourcePorts && { sourcePorts }),
    ...(destinationPorts && { destinationPorts }),
    ...(icmp && flagsMask !== 0 && { icmpType: flags >>> 8 }),
    ...(icmp && flagsMask === 0xffff && { icmpCode: flags & 255 }),
  }
  try {
    checkRule(family, rule)
  } catch (error) {
    return (error as RangeError).message
  }
  file.rules.push(rule)
  if (!icmp && flagsMask !== 0) file.flagsLeftOut++
  return undefined
}

function prefixOf(text: string, prefix: number): AclPrefix | undefined {
  const address = parseAddress(text)
  if (address === undefined || prefix > 32 * address.length) return undefined
  return { address: address.map((word, w) => (word & wordMask(prefix, w)) >>> 0), prefix }
}

/** Nothing for all ports. */
function rangeOf(first: string, last: string): PortRange | undefined {
  const range = { first: Number(first), last: Number(last) }
  return range.first === 0 && range.last === MAX_PORT ? undefined : range
}

/** The words in front of an IPv4 address that `inIpv6` moved: 2001:db8::/32, and a site. */
const SITE = [0x2001_0db8, 0x0000_0001] as const

/**
 * IPv4 rules as IPv6 ones of the same shape, for there are no public sets of these: a prefix of L
 * bits becomes one of 64 + L bits, protocol 1 becomes 58.
 */
export function inIpv6(rules: readonly AclRule[]): AclRule[] {
  const moved = ({ address, prefix }: AclPrefix): AclPrefix => ({
    address: [...SITE, address[0]!, 0],
    prefix: 32 * SITE.length + prefix,
  })
  return rules.map(({ source, destination, protocol, ...rest }) => ({
    ...rest,
    ...(source && { source: moved(source) }),
    ...(destination && { destination: moved(destination) }),
    ...(protocol !== undefined && { protocol: protocol === 1 ? 58 : protocol }),
  }))
}

/** One sentence, then the refused lines. */
export function describeRules({ intake, flagsLeftOut }: RuleFile): string[] {
  const [first, ...rest] = intake.describe()
  return [`${first}; TCP flags of ${flagsLeftOut} rules are not matched`, ...rest]
}
