/** Programs read rule by rule: slow and plain. `tables.ts` gives the same answers by a classifier. */
import { domainMatches } from '../dns/names.ts'
import { type Answer, type Match, type Program, type Question, VERDICT } from '../policy-program.ts'

/** What `program` says to a new flow. */
export function evaluate({ tiers }: Pick<Program, 'tiers'>, question: Question): Answer {
  for (const { rules, otherwise, origin } of tiers) {
    const rule = rules.find(({ matches: any }) => any.some(match => matches(match, question)))
    const verdict = rule?.verdict ?? otherwise
    if (verdict !== VERDICT.PASS) return { verdict, origin: rule?.origin ?? origin }
  }
  return { verdict: VERDICT.ALLOW, origin: -1 }
}

function matches(
  { peer, domain, network, protocol, ports, icmp }: Match,
  question: Question,
): boolean {
  if (peer !== undefined && !samePrefix([peer.value], [question.identity], peer.bits)) return false
  if (domain !== undefined && !question.names?.some(name => domainMatches(domain, name)))
    return false
  if (network !== undefined) {
    if (network.words.length !== question.address.length) return false
    if (!samePrefix(network.words, question.address, network.prefix)) return false
  }
  if (protocol !== undefined && protocol !== question.protocol) return false
  if (icmp !== undefined) {
    if (icmp.type !== question.port >>> 16) return false
    return icmp.code === undefined || icmp.code === (question.port & 0xffff)
  }
  return ports === undefined || (ports.first <= question.port && question.port <= ports.last)
}

function samePrefix(a: ArrayLike<number>, b: ArrayLike<number>, bits: number): boolean {
  for (let w = 0, left = bits; left > 0; w++, left -= 32) {
    const differ = a[w]! ^ b[w]!
    if (left >= 32 ? differ !== 0 : differ >>> (32 - left) !== 0) return false
  }
  return true
}
