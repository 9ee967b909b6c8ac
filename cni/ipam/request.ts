/**
 * Addresses that a pod asks for. The first of these that names any counts, the others are not read:
 *
 *     runtimeConfig.ips                    the `ips` capability (CONVENTIONS.md of the specification)
 *     CNI_ARGS                             IP=ADDRESS[,ADDRESS]
 *     annotation                           hawser.dev/ips (annotations.ts)
 *
 * Each address may have a prefix length, which says nothing here: a pod's interface has /32 or /128.
 * All of it is written by people who may not be the node's: bounded, and refused when it is wrong.
 */

import { z } from 'zod'
import { clean } from '../base/document.ts'
import { type Address, parseAddress } from '../netip/cidr.ts'
import { annotationList, separated, wrongRequest } from '../spec/annotations.ts'
import { check } from '../spec/check.ts'

export const IPS_ANNOTATION = 'hawser.dev/ips'

const configSchema = z.looseObject({
  runtimeConfig: z.looseObject({ ips: z.array(z.string()).nullish() }).nullish(),
})

/**
 * What a network configuration and CNI_ARGS ask for, at most one address of each family. Throws
 * CniError (code 7) that names the place and the value.
 */
export function requestedIps(document: unknown, cniArgs: string): Address[] {
  const { runtimeConfig } = check(configSchema, document)
  if (runtimeConfig?.ips?.length) return addresses('runtimeConfig.ips', runtimeConfig.ips)
  const argument = cniArgs.split(';').find(pair => pair.startsWith('IP='))
  if (argument !== undefined) {
    const list = separated('CNI_ARGS IP', argument.slice(3))
    if (list.length > 0) return addresses('CNI_ARGS IP', list)
  }
  return addresses(
    `annotation ${IPS_ANNOTATION}`,
    annotationList(document, IPS_ANNOTATION, 'addresses'),
  )
}

function addresses(where: string, list: readonly string[]): Address[] {
  const found: Address[] = []
  for (const text of list) {
    const parsed = requested(text)
    if ('cause' in parsed) throw wrongRequest(where, `${clean(text)}: ${parsed.cause}`)
    const other = found.find(each => each.family === parsed.family)
    if (other !== undefined) {
      const both = `${other.text} and ${parsed.text}`
      throw wrongRequest(where, `${both}: a pod has one IPv${parsed.family} address`)
    }
    found.push(parsed)
  }
  return found
}

function requested(text: string): Address | { cause: string } {
  const [, address = '', length] = /^([^/]{1,64})(?:\/(0|[1-9][0-9]{0,2}))?$/.exec(text) ?? []
  const parsed = parseAddress(address)
  if (!parsed.ok) return { cause: parsed.cause }
  const bits = parsed.value.family === 4 ? 32 : 128
  if (Number(length ?? 0) > bits) return { cause: `the prefix length is more than ${bits}` }
  return parsed.value
}
