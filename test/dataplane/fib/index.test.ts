import { expect, test } from 'vitest'
import { defaultFib, fibByName, fibNames } from '../../../dataplane/fib/index.ts'

test('FIBs by name and family', () => {
  for (const family of [4, 6] as const) {
    const names = fibNames(family)
    expect(new Set(names).size).toBe(names.length)
    expect(names).toContain(`linear${family}`)
    expect(names[0]).toBe(defaultFib(family))
    for (const name of names) expect(fibByName(name, family)).toMatchObject({ name, family })
  }
  expect([defaultFib(4), defaultFib(6)]).toEqual(['dir24_8', 'trie6'])
})

test('an unknown name, or one of the other family, is refused with the names there are', () => {
  expect(() => fibByName('dir16', 4)).toThrow(RangeError)
  const names = (family: 4 | 6) => `(${fibNames(family).join(', ')})`
  expect(() => fibByName('dir16', 4)).toThrow(`FIB "dir16": there is none for IPv4 ${names(4)}`)
  expect(() => fibByName('dir24_8', 6)).toThrow(names(6))
})
