// Rules by source: what is made, compared with what `ip -json` says.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { addSourceRule, deleteSourceRule } from '../../../dataplane/netlink/rule.ts'
import { removeNamespaces } from '../../native/namespace.ts'
import { type Place, place } from './kernel.ts'

let here: Place
beforeEach(() => {
  here = place()
})
afterEach(() => {
  here?.nl.close()
  removeNamespaces()
})

test.each([
  [4, '10.1.2.3', 4099],
  [6, 'fd00::9', 7],
] as const)('what comes from an IPv%i address has a table of its own', (family, source, table) => {
  const rule = { source, table, priority: 4096 }
  const ours = () =>
    here.json(`-${family}`, 'rule').filter(each => each['priority'] === rule.priority)
  addSourceRule(here.nl, rule)
  expect(ours()).toMatchObject([{ src: source, table: `${table}` }])
  expect(() => addSourceRule(here.nl, rule)).toThrow(expect.objectContaining({ code: 'EEXIST' }))
  addSourceRule(here.nl, { ...rule, table: 4200 })
  const { priority } = rule
  deleteSourceRule(here.nl, { source, priority })
  expect(ours()).toMatchObject([{ table: '4200' }])
  deleteSourceRule(here.nl, { source, priority })
  expect(ours()).toEqual([])
  expect(() => deleteSourceRule(here.nl, { source, priority })).toThrow(
    expect.objectContaining({ code: 'ENOENT', message: expect.stringContaining(source) }),
  )
})
