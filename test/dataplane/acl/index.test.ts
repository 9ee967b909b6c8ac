import { expect, test } from 'vitest'
import { aclByName, aclNames, defaultAcl } from '../../../dataplane/acl/index.ts'

test('ACLs by name and family', () => {
  for (const family of [4, 6] as const) {
    const names = aclNames(family)
    expect(new Set(names).size).toBe(names.length)
    for (const name of ['tuplemerge', 'tss', 'linear']) expect(names).toContain(`${name}${family}`)
    expect(names).toContain(`tuplemerge${family}_native`)
    expect(names[0]).toBe(defaultAcl(family))
    for (const name of names) expect(aclByName(name, family)).toMatchObject({ name, family })
  }
  expect(aclNames(4).map(name => name.replace('4', '6'))).toEqual(aclNames(6))
  expect([defaultAcl(4), defaultAcl(6)]).toEqual(['tuplemerge4', 'tuplemerge6'])
})

test('an unknown name, or one of the other family, is refused with the names there are', () => {
  expect(() => aclByName('nft', 4)).toThrow(RangeError)
  expect(() => aclByName('nft', 4)).toThrow(
    `ACL "nft": there is none for IPv4 (${aclNames(4).join(', ')})`,
  )
  expect(() => aclByName('tss4', 6)).toThrow(`(${aclNames(6).join(', ')})`)
})
