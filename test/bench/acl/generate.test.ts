import { expect, test } from 'vitest'
import { PROFILE_NAMES, rulesLike } from '../../../bench/acl/generate.ts'
import { checkRule } from '../../../dataplane/acl/rule.ts'

test.each(PROFILE_NAMES)(
  '%s: every rule is one, all are different, ids and priorities ascend',
  profile => {
    const rules = rulesLike(profile, 10_000)
    for (const [i, rule] of rules.entries()) {
      checkRule(4, rule)
      expect([rule.id, rule.priority]).toEqual([i + 1, i])
    }
    const meanings = new Set(rules.map(({ id, priority, ...rest }) => JSON.stringify(rest)))
    expect(meanings.size).toBe(rules.length)
  },
)

test('the same arguments give the same rules, another seed or profile others', () => {
  expect(rulesLike('fw', 100)).toEqual(rulesLike('fw', 100))
  expect(rulesLike('fw', 100, 2)).not.toEqual(rulesLike('fw', 100))
  expect(rulesLike('ipc', 100)).not.toEqual(rulesLike('fw', 100))
  expect(rulesLike('fw', 200).slice(0, 100)).toEqual(rulesLike('fw', 100))
})

test('a firewall leaves more of a rule open than an access list', () => {
  const open = (profile: 'acl' | 'fw') =>
    rulesLike(profile, 1000).filter(({ source }) => source === undefined).length
  expect(open('fw')).toBeGreaterThan(4 * open('acl'))
})
