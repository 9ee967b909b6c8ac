/**
 * The network configuration on stdin. Each verb asks only for what it needs: a DEL must work with a
 * configuration that no ADD would take. Keys that are not ours are tolerated (runtimes and other
 * plugins of a chain put theirs beside them); cni/CONFIGURATION.md has the table of ours.
 */

import { z } from 'zod'
import { MIN_POD_MTU } from '../../dataplane/limits.ts'
import { clean } from '../base/document.ts'
import { check } from './check.ts'
import { CniError, CODE } from './errors.ts'
import { delegateProblem, nameProblem } from './names.ts'
import { CNI_VERSIONS, type CniVersion, hasVerb, SINCE, type Verb } from './versions.ts'

export const ATTACH_KINDS = ['tun', 'xdp', 'tap'] as const

const network = z.string().superRefine((value, context) => {
  const cause = nameProblem(value)
  if (cause !== undefined) context.addIssue({ code: 'custom', message: cause, input: value })
})

/** What every verb needs. A configuration without a version is of the first one. */
const baseSchema = z.looseObject({ cniVersion: z.string().default('0.1.0'), name: network })

const delSchema = z.looseObject({ name: network })

export const dnsSchema = z.looseObject({
  nameservers: z.array(z.string()).optional(),
  domain: z.string().optional(),
  search: z.array(z.string()).optional(),
  options: z.array(z.string()).optional(),
})

/** Only whose addresses they are; the rest is the business of whoever gives them. */
const ipamSchema = z.looseObject({ type: z.string().nullish() }).nullish()

/** Which overlay network of the cluster file; absent: the cluster's own. */
const overlaySchema = z
  .string()
  .nullish()
  .transform(name => name ?? undefined)

const addSchema = baseSchema.extend({
  attach: z.enum(ATTACH_KINDS).default('tun'),
  mtu: z.int().min(MIN_POD_MTU).max(0xffff).optional(),
  dns: dnsSchema.nullish(),
  prevResult: z.looseObject({}).nullish(),
  ipam: ipamSchema,
  network: overlaySchema,
})

const checkSchema = baseSchema.extend({ prevResult: z.looseObject({}) })

const statusSchema = baseSchema.extend({ ipam: ipamSchema, network: overlaySchema })

const attachmentSchema = z.looseObject({ containerID: z.string(), ifname: z.string() })
const gcSchema = baseSchema.extend({
  // A null is what an absent list becomes on its way through some runtimes.
  'cni.dev/valid-attachments': z.array(attachmentSchema).nullish(),
  ipam: ipamSchema,
})

export type Dns = z.output<typeof dnsSchema>
export type AddConfig = z.output<typeof addSchema> & { cniVersion: CniVersion }
export type CheckConfig = z.output<typeof checkSchema> & { cniVersion: CniVersion }
export type GcConfig = z.output<typeof gcSchema> & { cniVersion: CniVersion }
export type StatusConfig = z.output<typeof statusSchema> & { cniVersion: CniVersion }
export type BaseConfig = z.output<typeof baseSchema>

/** `ipam.type` when the addresses are the daemon's own business; so are they without one. */
export const OWN_IPAM = 'hawser'

/** It speaks over the pod's interface, which is made with its addresses; and a server would be far off. */
const NEEDS_A_LINK =
  'DHCP needs a link with a server on it, and pods of hawser are routed (of further interfaces, macvlan has one)'

/** The JSON on stdin; throws CniError (code 6). */
export function parseJson(config: string): unknown {
  try {
    return JSON.parse(config)
  } catch (error) {
    throw new CniError(
      CODE.decode,
      `the network configuration is not JSON: ${clean((error as Error).message, 200)}`,
    )
  }
}

/** `cniVersion` of a parsed configuration, of whatever shape it is. */
export function versionIn(document: unknown): string | undefined {
  const version = (document as { cniVersion?: unknown } | null | undefined)?.cniVersion
  return typeof version === 'string' ? version : undefined
}

/** For DEL: only the network's name counts, whatever the version says. */
export function parseDel(document: unknown): Pick<BaseConfig, 'name'> {
  return check(delSchema, document)
}

export function parseAdd(document: unknown): AddConfig {
  const cniVersion = speak('ADD', document)
  return { ...check(addSchema, document), cniVersion }
}

/**
 * Name of the IPAM plugin that a configuration wants addresses from; undefined when they are the
 * daemon's own business. Throws CniError (code 7) when it can't be a plugin's name.
 */
export function delegateOf({ ipam }: Pick<StatusConfig, 'ipam'>): string | undefined {
  const type = ipam?.type
  if (type == null || type === '' || type === OWN_IPAM) return undefined
  const problem = type === 'dhcp' ? NEEDS_A_LINK : delegateProblem(type)
  if (problem === undefined) return type
  throw new CniError(
    CODE.config,
    `ipam.type ${clean(type)}: ${problem}`,
    `leave it out, or say "${OWN_IPAM}", for addresses of the node's pod CIDRs`,
  )
}

/** As `delegateOf`, of a configuration of whatever shape: what names no plugin is passed over. */
export function delegateIn(document: unknown): string | undefined {
  const ipam = statusSchema.shape.ipam.safeParse((document as { ipam?: unknown } | null)?.ipam)
  const type = ipam.data?.type
  if (type == null || type === OWN_IPAM) return undefined
  return delegateProblem(type) === undefined ? type : undefined
}

export function parseCheck(document: unknown): CheckConfig {
  const cniVersion = speak('CHECK', document)
  return { ...check(checkSchema, document), cniVersion }
}

export function parseStatus(document: unknown): StatusConfig {
  const cniVersion = speak('STATUS', document)
  return { ...check(statusSchema, document), cniVersion }
}

export function parseGc(document: unknown): GcConfig {
  const cniVersion = speak('GC', document)
  return { ...check(gcSchema, document), cniVersion }
}

/** The version to answer in; throws CniError (code 1) when we don't speak it, or it lacks the verb. */
function speak(verb: Verb, document: unknown): CniVersion {
  const { cniVersion } = check(baseSchema, document)
  const known = CNI_VERSIONS.find(version => version === cniVersion)
  if (known === undefined) {
    throw new CniError(
      CODE.version,
      `cniVersion ${clean(cniVersion)}: not supported`,
      `supported: ${CNI_VERSIONS.join(', ')}`,
    )
  }
  if (!hasVerb(known, verb)) {
    throw new CniError(CODE.version, `cniVersion ${known} has no ${verb}`, `since ${SINCE[verb]}`)
  }
  return known
}
