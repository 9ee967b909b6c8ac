// Addresses, routes and neighbours: what is made, compared with what `ip -json` says.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { addAddress, deleteAddress, listAddresses } from '../../../dataplane/netlink/address.ts'
import { createVeth, getLink, setLink } from '../../../dataplane/netlink/link.ts'
import { removeNamespaces } from '../../native/namespace.ts'
import { type Place, place } from './kernel.ts'

let here: Place
let va: number
beforeEach(() => {
  here = place()
  createVeth(here.nl, { name: 'va', peer: { name: 'vb' } })
  va = getLink(here.nl, 'va')!.index
  setLink(here.nl, va, { up: true })
  // No address of the kernel's own.
  here.namespace.ip('address', 'flush', 'dev', 'va')
})
afterEach(() => {
  here?.nl.close()
  removeNamespaces()
})

interface IpAddress {
  local: string
  prefixlen: number
  scope: string
  nodad?: boolean
  noprefixroute?: boolean
  tentative?: boolean
}

function asIp(): IpAddress[] {
  return here.json('address', 'show', 'dev', 'va')[0]!['addr_info'] as IpAddress[]
}

describe('addresses', () => {
  test('of both families, with their flags', () => {
    addAddress(here.nl, { ifindex: va, address: '10.1.0.1', prefix: 24 })
    addAddress(here.nl, { ifindex: va, address: '10.2.0.1', prefix: 32, noPrefixRoute: true })
    addAddress(here.nl, { ifindex: va, address: '10.3.0.1', prefix: 32, scope: 'link' })
    addAddress(here.nl, { ifindex: va, address: 'fd01::1', prefix: 64, noDad: true })
    addAddress(here.nl, {
      ifindex: va,
      address: 'fd02::1',
      prefix: 128,
      noDad: true,
      noPrefixRoute: true,
    })
    const said = asIp().map(each => [
      each.local,
      each.prefixlen,
      each.scope,
      each.noprefixroute ?? false,
    ])
    expect(said.sort()).toEqual([
      ['10.1.0.1', 24, 'global', false],
      ['10.2.0.1', 32, 'global', true],
      ['10.3.0.1', 32, 'link', false],
      ['fd01::1', 64, 'global', false],
      ['fd02::1', 128, 'global', true],
    ])
    const read = listAddresses(here.nl, va)
    const ours = read.map(each => [each.address, each.prefix, each.scope])
    expect(ours.sort()).toEqual(said.map(each => each.slice(0, 3)).sort())
    expect(read.every(each => each.ifindex === va && !each.tentative)).toBe(true)
    expect(asIp().filter(each => each.nodad)).toHaveLength(2)
    // Without an index: those of lo too.
    const all = listAddresses(here.nl)
    expect(all.filter(each => each.ifindex === 1).map(each => each.address)).toContain('127.0.0.1')
    expect(all.length).toBeGreaterThan(read.length)
  })

  test('an IPv6 address is tentative until duplicate address detection has ended', () => {
    // Without a carrier it does not begin.
    addAddress(here.nl, { ifindex: va, address: 'fd01::1', prefix: 64 })
    const found = listAddresses(here.nl, va).find(each => each.address === 'fd01::1')!
    const said = asIp().find(each => each.local === 'fd01::1')!
    expect(found.tentative).toBe(said.tentative === true)
    expect(found.tentative).toBe(true)
  })

  test('a second time, removal, and removal of what is not there', () => {
    const address = { ifindex: va, address: '10.1.0.1', prefix: 24 }
    addAddress(here.nl, address)
    expect(() => addAddress(here.nl, address)).toThrow(
      `add address 10.1.0.1/24 on va in ${here.namespace.path}: File exists (EEXIST)`,
    )
    deleteAddress(here.nl, address)
    expect(asIp()).toEqual([])
    expect(() => deleteAddress(here.nl, address)).toThrow(
      `delete address 10.1.0.1/24 on va in ${here.namespace.path}: Cannot assign requested address (EADDRNOTAVAIL)`,
    )
  })

  test('what is no address or prefix is refused before the kernel sees it', () => {
    for (const [address, prefix] of [
      ['10.1.0.1', 33],
      ['10.1.0.1', -1],
      ['10.1.0.1', 1.5],
      ['10.1.0', 24],
      ['10.1.0.1/24', 24],
      ['fd01::1', 129],
      ['fe80::1%va', 64],
    ] as const) {
      const add = () => addAddress(here.nl, { ifindex: va, address, prefix })
      expect(add, `${address}/${prefix}`).toThrow(RangeError)
    }
    expect(asIp()).toEqual([])
  })
})
