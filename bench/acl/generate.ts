/**
 * Seeded rule sets like those of ClassBench (D. E. Taylor, J. S. Turner, "ClassBench: A Packet
 * Classification Benchmark", INFOCOM 2005), for machines without the real ones: access lists, a
 * firewall, IP chains. As there, a set is described by how long its prefixes are, how many protocols
 * it names, and in which of five classes its port ranges are; addresses come from few networks, so
 * that prefixes nest. The weights are round numbers near what the published sets have, no fit.
 */
import type { AclPrefix, AclRule, PortRange } from '../../dataplane/acl/acl.ts'
import { MAX_PORT, wordMask } from '../../dataplane/acl/rule.ts'
import { seeded } from '../../dataplane/fib/columns.ts'

/** Values and how likely each is, in percent. */
type Weights<T> = readonly (readonly [T, number])[]

/** ClassBench's classes: all ports, those of users, those of servers, any range, one port. */
type PortClass = 'WC' | 'HI' | 'LO' | 'AR' | 'EM'

interface Profile {
  source: Weights<number>
  destination: Weights<number>
  /** Undefined for rules that name none. */
  protocol: Weights<number | undefined>
  sourcePorts: Weights<PortClass>
  destinationPorts: Weights<PortClass>
}

const PROFILES = {
  acl: {
    source: [
      [0, 5],
      [16, 10],
      [24, 35],
      [28, 15],
      [32, 35],
    ],
    destination: [
      [24, 15],
      [28, 15],
      [30, 10],
      [32, 60],
    ],
    protocol: [
      [6, 80],
      [17, 8],
      [1, 4],
      [undefined, 8],
    ],
    sourcePorts: [['WC', 100]],
    destinationPorts: [
      ['WC', 15],
      ['HI', 5],
      ['AR', 10],
      ['EM', 70],
    ],
  },
  fw: {
    source: [
      [0, 45],
      [16, 5],
      [24, 20],
      [32, 30],
    ],
    destination: [
      [0, 40],
      [16, 10],
      [24, 20],
      [32, 30],
    ],
    protocol: [
      [6, 60],
      [17, 25],
      [1, 5],
      [47, 2],
      [undefined, 8],
    ],
    sourcePorts: [
      ['WC', 60],
      ['HI', 20],
      ['AR', 5],
      ['EM', 15],
    ],
    destinationPorts: [
      ['WC', 35],
      ['HI', 15],
      ['LO', 5],
      ['AR', 10],
      ['EM', 35],
    ],
  },
  ipc: {
    source: [
      [0, 12],
      [8, 3],
      [16, 15],
      [24, 35],
      [32, 35],
    ],
    destination: [
      [0, 8],
      [16, 12],
      [24, 30],
      [28, 10],
      [32, 40],
    ],
    protocol: [
      [6, 50],
      [17, 25],
      [1, 5],
      [50, 2],
      [undefined, 18],
    ],
    sourcePorts: [
      ['WC', 75],
      ['HI', 8],
      ['AR', 2],
      ['EM', 15],
    ],
    destinationPorts: [
      ['WC', 45],
      ['HI', 8],
      ['AR', 7],
      ['EM', 40],
    ],
  },
} as const satisfies Record<string, Profile>

export type ProfileName = keyof typeof PROFILES
export const PROFILE_NAMES = Object.keys(PROFILES) as ProfileName[]

/** Networks of 16 bits that addresses are in, and of 24 bits in each: how much prefixes nest. */
const NETWORKS = 24
const SUBNETS = 32
const SERVER_PORTS = [20, 21, 22, 23, 25, 53, 80, 110, 123, 143, 161, 179, 389, 443, 445, 514]
const MORE_PORTS = [1433, 1521, 1720, 2049, 3306, 3389, 5060, 5432, 6379, 8080, 8443, 9090]
const PORTS = [...SERVER_PORTS, ...MORE_PORTS]
const FIRST_USER_PORT = 1024
const ICMP_TYPES = [0, 3, 5, 8, 11]
/** Draws without a new rule after which a profile is exhausted. */
const PATIENCE = 10_000

/** `count` different IPv4 rules, the same for the same arguments; ids from 1, the first one that matches decides. */
export function rulesLike(profile: ProfileName, count: number, seed = 1): AclRule[] {
  const random = seeded(Math.imul(seed, 0x9e37_79b1) ^ (PROFILE_NAMES.indexOf(profile) + 1))
  const networks = Array.from({ length: NETWORKS }, () => random() & 0xffff_0000)
  const rules: AclRule[] = []
  const seen = new Set<string>()
  for (let misses = 0; rules.length < count; ) {
    const parts = draw(PROFILES[profile], networks, random)
    const key = JSON.stringify(parts)
    if (seen.has(key)) {
      if (++misses > PATIENCE) throw new RangeError(`${profile}: there are no ${count} rules`)
      continue
    }
    seen.add(key)
    misses = 0
    rules.push({ id: rules.length + 1, priority: rules.length, ...parts })
  }
  return rules
}

type Random = () => number

function draw(
  of: Profile,
  networks: readonly number[],
  random: Random,
): Omit<AclRule, 'id' | 'priority'> {
  const source = prefix(pick(of.source, random), networks, random)
  const destination = prefix(pick(of.destination, random), networks, random)
  const protocol = pick(of.protocol, random)
  const ported = protocol === 6 || protocol === 17
  const sourcePorts = ported ? ports(pick(of.sourcePorts, random), random) : undefined
  const destinationPorts = ported ? ports(pick(of.destinationPorts, random), random) : undefined
  const icmpType = protocol === 1 ? ICMP_TYPES[random() % ICMP_TYPES.length]! : undefined
  return {
    ...(source && { source }),
    ...(destination && { destination }),
    ...(protocol !== undefined && { protocol }),
    ...(sourcePorts && { sourcePorts }),
    ...(destinationPorts && { destinationPorts }),
    ...(icmpType !== undefined && { icmpType }),
  }
}

function pick<T>(weights: Weights<T>, random: Random): T {
  let left = random() % 100
  for (const [value, weight] of weights) {
    if (left < weight) return value
    left -= weight
  }
  throw new RangeError('weights below 100 %')
}

function prefix(
  length: number,
  networks: readonly number[],
  random: Random,
): AclPrefix | undefined {
  if (length === 0) return undefined
  const subnet = (random() % SUBNETS) << 8
  const address = networks[random() % networks.length]! | subnet | (random() & 0xff)
  return { address: [(address & wordMask(length, 0)) >>> 0], prefix: length }
}

function ports(kind: PortClass, random: Random): PortRange | undefined {
  if (kind === 'WC') return undefined
  if (kind === 'HI') return { first: FIRST_USER_PORT, last: MAX_PORT }
  if (kind === 'LO') return { first: 0, last: FIRST_USER_PORT - 1 }
  const first = PORTS[random() % PORTS.length]!
  return { first, last: kind === 'EM' ? first : first + 1 + (random() % 1000) }
}
