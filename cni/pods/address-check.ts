/**
 * What `hawser ipam show`, `check` and `check --repair` ask the daemon: who has which address, how full
 * the ranges are, and where the state, the pods' namespaces and IPAM plugins disagree.
 *
 * Only what nobody can be using any more is mended: it goes the way that a DEL would take, in the
 * turn of its attachment, after another look. What a person put somewhere is only told.
 */

import { getLink, listAddresses, Netlink } from '../../dataplane/kernel.ts'
import { clean } from '../base/document.ts'
import { giveBackOrphan } from '../ipam/delegations.ts'
import { type RangeReport, rangeReports } from '../ipam/usage.ts'
import { addressText, storedAddress } from '../netip/cidr.ts'
import { turnOf } from '../secondary/interfaces.ts'
import { OWN_IPAM } from '../spec/netconf.ts'
import { type Attachment, attachmentId } from '../state/state.ts'
import { look } from './namespace.ts'
import type { Node } from './node.ts'
import { LIMIT_MS } from './turns.ts'

/** Who has what. */
export interface AddressList {
  attachments: {
    attachment: string
    pod: string
    ip4?: string
    ip6?: string
    phase: Attachment['phase']
    /** `hawser`, or the IPAM plugin. */
    from: string
    /** Milliseconds since 1970. */
    created: number
  }[]
  /** Freed addresses that rest, and since when. */
  cooling: { address: string; freed: number }[]
}

export interface Finding {
  kind:
    | 'reserved'
    | 'namespace'
    | 'unknown-address'
    | 'missing-address'
    | 'unknown-pod'
    | 'duplicate'
    | 'taken-and-cooling'
    | 'not-given-back'
  /** A sentence for people. */
  text: string
  attachment?: string
  address?: string
  /** `--repair` can mend it. */
  repairable: boolean
  /** After `--repair`: `done`, or why not. */
  repair?: string
}

export interface AddressCheck {
  ranges: RangeReport[]
  findings: Finding[]
}

interface Found {
  finding: Finding
  mend?: () => Promise<void> | void
}

export function showAddresses({ state }: Node): AddressList {
  const types = new Map(state.delegations().map(each => [attachmentId(each), each.type]))
  const attachments = state.list().map(each => {
    const { ip4, ip6, phase, pod, created } = each
    const attachment = attachmentId(each)
    return {
      ...{ attachment, pod, phase, from: types.get(attachment) ?? OWN_IPAM, created },
      ...(ip4 === undefined ? {} : { ip4 }),
      ...(ip6 === undefined ? {} : { ip6 }),
    }
  })
  const cooling = ([4, 6] as const).flatMap(family =>
    [...state.addressUse(family).cooling].map(([value, freed]) => ({
      address: addressText(family, value),
      freed,
    })),
  )
  return { attachments, cooling }
}

export function checkAddresses(node: Node): AddressCheck {
  return { ranges: rangeReports(node), findings: find(node).map(({ finding }) => finding) }
}

/** Mends what can be, then checks the ranges. Never rejects for the sake of a finding. */
export async function repairAddresses(node: Node): Promise<AddressCheck> {
  const findings = await Promise.all(
    find(node).map(async ({ finding, mend }): Promise<Finding> => {
      if (mend === undefined) return finding
      const { kind, attachment, address, text } = finding
      try {
        await mend()
        node.log.warn({ kind, attachment, address, text }, 'an address is mended')
        return { ...finding, repair: 'done' }
      } catch (error) {
        return { ...finding, repair: (error as Error).message }
      }
    }),
  )
  return { ranges: rangeReports(node), findings }
}

function find(node: Node): Found[] {
  const rows = node.state.list()
  const seen = rows.map(row => ({ row, ...onInterface(row) }))
  return [
    ...seen.flatMap(({ row, gone }) => [...stale(node, row, gone)]),
    ...seen.flatMap(({ row, addresses }) => (addresses === undefined ? [] : odd(row, addresses))),
    ...duplicates(seen),
    ...strangers(node, rows),
    ...warm(node),
    ...orphans(node, rows),
  ]
}

/** Rows that hold addresses for nobody. */
function stale(node: Node, row: Attachment, gone: boolean): Found[] {
  const { state, turns, pods } = node
  const attachment = attachmentId(row)
  const having = `${textOf(row)}: held by ${attachment}`
  const remove = (still: (now: Attachment) => boolean) => () =>
    turns.run(turnOf(state, row), async () => {
      const now = state.get(row)
      if (now?.created === row.created && still(now)) await pods.remove(row)
    })
  if (row.phase === 'reserved') {
    if (Date.now() - row.created <= LIMIT_MS) return []
    const text = `${having}, which was never attached: its ADD was not answered`
    const mend = remove(now => now.phase === 'reserved')
    return [{ finding: { kind: 'reserved', text, attachment, repairable: true }, mend }]
  }
  if (!gone) return []
  const text = `${having}, and its namespace ${clean(row.netns, 200)} is gone`
  const mend = remove(now => look(now) === 'gone')
  return [{ finding: { kind: 'namespace', text, attachment, repairable: true }, mend }]
}

/** What an interface has that the state doesn't, and the reverse. */
function odd(row: Attachment, addresses: readonly string[]): Found[] {
  const attachment = attachmentId(row)
  const own = [row.ip4, row.ip6].filter(ip => ip !== undefined)
  const where = `${clean(row.ifname)} of ${attachment}`
  const unknown = addresses
    .filter(address => !own.includes(address))
    .map((address): Finding => {
      const text = `${address}: on ${where}, unknown to the state; what it sends from there is dropped`
      return { kind: 'unknown-address', text, attachment, address, repairable: false }
    })
  const missing = own
    .filter(address => !addresses.includes(address))
    .map((address): Finding => {
      const text = `${address}: held by ${attachment}, but not on ${where}`
      return { kind: 'missing-address', text, attachment, address, repairable: false }
    })
  return [...unknown, ...missing].map(finding => ({ finding }))
}

/** Addresses that more than one pod's interface has, or one pod has and the state gave another. */
function duplicates(seen: readonly { row: Attachment; addresses?: readonly string[] }[]): Found[] {
  const users = new Map<string, Set<string>>()
  for (const { row, addresses = [] } of seen) {
    for (const ip of [row.ip4, row.ip6, ...addresses]) {
      if (ip === undefined) continue
      users.set(ip, (users.get(ip) ?? new Set()).add(attachmentId(row)))
    }
  }
  return [...users].flatMap(([address, ids]) => {
    if (ids.size < 2) return []
    const text = `${address}: ${[...ids].join(' and ')} have it`
    return [{ finding: { kind: 'duplicate', text, address, repairable: false } }]
  })
}

/** Pods that the packet engine serves without a row. */
function strangers({ plane }: Node, rows: readonly Attachment[]): Found[] {
  const known = new Set(rows.map(attachmentId))
  return plane
    .pods()
    .filter(pod => !known.has(pod.id))
    .map(pod => {
      const text = `${textOf(pod)}: the packet engine serves ${pod.id}, unknown to the state`
      return { finding: { kind: 'unknown-pod', text, attachment: pod.id, repairable: false } }
    })
}

function warm({ state }: Node): Found[] {
  return ([4, 6] as const).flatMap(family => {
    const { taken, cooling } = state.addressUse(family)
    return [...cooling.keys()]
      .filter(value => taken.has(value))
      .map((value): Found => {
        const address = addressText(family, value)
        const text = `${address}: it cools down, and is in use`
        return {
          finding: { kind: 'taken-and-cooling', text, address, repairable: true },
          mend: () => {
            if (state.holder(family, address) !== undefined) state.warm(address)
          },
        }
      })
  })
}

/** What IPAM plugins still hold for attachments that are gone. */
function orphans(node: Node, rows: readonly Attachment[]): Found[] {
  const known = new Set(rows.map(attachmentId))
  return node.state
    .delegations()
    .filter(key => !known.has(attachmentId(key)) && Date.now() - key.created > LIMIT_MS)
    .map((key): Found => {
      const attachment = attachmentId(key)
      const text = `${attachment}: gone, and IPAM plugin ${key.type} has not got its addresses back`
      return {
        finding: { kind: 'not-given-back', text, attachment, repairable: true },
        mend: () => giveBackOrphan(node, key),
      }
    })
}

/** What the interface of an attachment has, unless it can't be seen; link-local ones are the kernel's. */
function onInterface(row: Attachment): { gone: boolean; addresses?: string[] } {
  if (row.phase === 'reserved') return { gone: false }
  const state = look(row)
  if (state !== 'there') return { gone: state === 'gone' }
  try {
    const nl = new Netlink(row.netns)
    try {
      const link = getLink(nl, row.ifname)
      if (link === undefined) return { gone: false, addresses: [] }
      const found = listAddresses(nl, link.index).filter(each => each.scope !== 'link')
      return { gone: false, addresses: found.map(({ address }) => canonical(address)) }
    } finally {
      nl.close()
    }
  } catch {
    return { gone: false }
  }
}

function canonical(address: string): string {
  try {
    return storedAddress(address).text
  } catch {
    return address
  }
}

function textOf({ ip4, ip6 }: { ip4?: string; ip6?: string }): string {
  return [ip4, ip6].filter(ip => ip !== undefined).join(' and ')
}
