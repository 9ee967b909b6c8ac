/** Both sides of the comparison are given the same rules, and the generator's packets are what they allow. */
import { expect, test } from 'vitest'
import {
  DENIED_PORT,
  FIRST_PORT,
  identitiesOf,
  nftablesOf,
  PORTS,
  programOf,
  rulesOf,
} from '../../../bench/path/rules.ts'
import { plan } from '../../../bench/path/topology.ts'
import { ipWords } from '../../../dataplane/addresses.ts'
import { evaluate } from '../../../dataplane/policy/evaluate.ts'
import { VERDICT } from '../../../dataplane/policy-program.ts'

const UDP = 17
const rules = rulesOf(12_500)
const identities = new Map(identitiesOf(rules).map(each => [each.address, each.identity]))

function verdict(address: string, port: number): number {
  const question = { identity: identities.get(address)!, address: ipWords(address) }
  return evaluate(programOf(rules), { ...question, protocol: UDP, port }).verdict
}

test('there are as many different rules as were asked for', () => {
  const texts = rules.map(({ address, protocol, port }) => `${address} . ${protocol} . ${port}`)
  expect(new Set(texts).size).toBe(12_500)
  expect(programOf(rules).tiers[0]!.rules).toHaveLength(12_500)
  const listed = [...nftablesOf(rules).matchAll(/(\S+ \. \d+ \. \d+) : accept/g)].map(m => m[1])
  expect(listed).toEqual(texts)
})

test('every port of the generator is allowed, and the one that proves the denial is not', () => {
  const { address } = plan.remote
  for (const port of [FIRST_PORT, FIRST_PORT + 1, FIRST_PORT + PORTS - 1]) {
    expect(verdict(address, port)).toBe(VERDICT.ALLOW)
  }
  for (const port of [DENIED_PORT, DENIED_PORT + PORTS - 1, FIRST_PORT - 1, FIRST_PORT + PORTS]) {
    expect(verdict(address, port)).toBe(VERDICT.DENY)
  }
})

test('few rules have a rule for the generator, too', () => {
  expect(rulesOf(10)).toHaveLength(10)
  expect(rulesOf(10)).toContainEqual({ address: plan.remote.address, protocol: UDP, port: 9000 })
})
