/**
 * What a runtime asks for one pod beside its addresses: `runtimeConfig` by the capabilities
 * `portMappings`, `bandwidth` and `mac` (CONVENTIONS.md of the specification), and `MAC=` in CNI_ARGS,
 * which counts when `runtimeConfig` has none. Keys that are not ours, `aliases` among them, are passed
 * over; null and an absent key are the same.
 */

import { isIPv4, isIPv6 } from 'node:net'
import { z } from 'zod'
import { ipWords, macBytes, wordsToIp } from '../../dataplane/addresses.ts'
import type { AttachKind, Bandwidth, PortMapping } from '../../dataplane/control.ts'
import { clean } from '../base/document.ts'
import { check } from './check.ts'
import { CniError, CODE } from './errors.ts'

/** Port mappings of one pod. */
export const MAX_PORT_MAPPINGS = 256

/** What is kept of it with the attachment. */
export interface Runtime {
  portMappings?: PortMapping[]
  bandwidth?: Bandwidth
  mac?: string
  /** It is a further interface (secondaries.ts): the networks that it is the way to, as CIDRs. */
  further?: string[]
  /** The pod's labels, as far as its annotations tell (enforce/requested-labels.ts). */
  labels?: Readonly<Record<string, string>>
}

/**
 * An object whose keys may be written in any case, as Go reads them: containerd begins those within a
 * capability with capitals (`HostPort`). A key that is written as in the specification wins.
 */
function anyCase<S extends z.ZodObject>(schema: S) {
  const known = new Map(Object.keys(schema.shape).map(key => [key.toLowerCase(), key]))
  return z.preprocess(value => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
    const entries = Object.entries(value)
    const renamed = entries.map(([key, each]) => [known.get(key.toLowerCase()) ?? key, each])
    return Object.fromEntries([...renamed, ...entries])
  }, schema)
}

const port = z.int().min(0).max(0xffff)

const protocol = z
  .string()
  .transform(text => text.toLowerCase())
  .pipe(z.enum(['tcp', 'udp', 'sctp']))

const hostIP = z.string().transform((text, context) => {
  if (text === '') return undefined
  if (isIPv4(text) || (isIPv6(text) && !text.includes('%'))) return wordsToIp(ipWords(text))
  context.addIssue({ code: 'custom', message: 'not an IPv4 or IPv6 address', input: text })
  return z.NEVER
})

const mappingSchema = anyCase(
  z.looseObject({
    hostPort: port.nullish(),
    containerPort: port,
    protocol: protocol.nullish(),
    hostIP: hostIP.nullish(),
  }),
)

/** Bits, or bits a second; runtimes write the largest number of some type for "no limit". */
const bits = z
  .number()
  .min(0)
  .nullish()
  .transform(value => Math.floor(value ?? 0))

const runtimeSchema = z
  .looseObject({
    portMappings: z.array(mappingSchema).max(MAX_PORT_MAPPINGS).nullish(),
    bandwidth: anyCase(
      z.looseObject({
        ingressRate: bits,
        ingressBurst: bits,
        egressRate: bits,
        egressBurst: bits,
      }),
    ).nullish(),
    mac: z.string().nullish(),
  })
  .nullish()

/** What `document` and CNI_ARGS ask for a pod of `kind`; undefined for nothing. Throws CniError (code 7). */
export function runtimeOf(
  document: unknown,
  cniArgs: string,
  kind: AttachKind,
): Runtime | undefined {
  const config = (document as { runtimeConfig?: unknown } | null)?.runtimeConfig
  const asked = check(runtimeSchema, config, ['runtimeConfig'])
  const runtime: Runtime = {}
  const mac = macOf(asked?.mac, cniArgs)
  if (mac !== undefined) {
    if (kind === 'tun') {
      throw new CniError(
        CODE.config,
        `MAC ${mac}: a pod with "attach": "tun" has no MAC`,
        'say "attach": "tap" or "xdp", or ask for no MAC',
      )
    }
    runtime.mac = mac
  }
  const portMappings = mappingsOf(asked?.portMappings ?? [])
  if (portMappings.length > 0) runtime.portMappings = portMappings
  const bandwidth = bandwidthOf(asked?.bandwidth)
  if (bandwidth !== undefined) runtime.bandwidth = bandwidth
  return Object.keys(runtime).length === 0 ? undefined : runtime
}

/** In lower case. Throws CniError (code 7) unless it is that of a single interface. */
function macOf(configured: string | null | undefined, cniArgs: string): string | undefined {
  const argument = cniArgs.split(';').find(pair => pair.startsWith('MAC='))
  const [where, text] = configured
    ? (['runtimeConfig.mac', configured] as const)
    : (['CNI_ARGS MAC', argument?.slice(4) ?? ''] as const)
  if (text === '') return undefined
  const wrong = (cause: string): CniError =>
    new CniError(CODE.config, `${where} ${clean(text)}: ${cause}`)
  const mac = text.toLowerCase()
  let bytes: Uint8Array
  try {
    bytes = macBytes(mac)
  } catch {
    throw wrong('not a MAC address of 6 bytes (02:00:00:00:00:01)')
  }
  if ((bytes[0]! & 1) !== 0) throw wrong('a group address, not that of an interface')
  if (bytes.every(byte => byte === 0)) throw wrong('no address')
  return mac
}

/** Without those that ask for no port of the node, nor a second time for the same. */
function mappingsOf(asked: readonly z.output<typeof mappingSchema>[]): PortMapping[] {
  const found = new Map<string, PortMapping>()
  for (const { hostPort, containerPort, protocol, hostIP } of asked) {
    if (!hostPort) continue
    if (containerPort === 0) {
      throw new CniError(
        CODE.config,
        `runtimeConfig.portMappings: host port ${hostPort} leads to port 0`,
      )
    }
    const mapping: PortMapping = {
      protocol: protocol ?? 'tcp',
      hostPort,
      containerPort,
      ...(hostIP == null ? {} : { hostIP }),
    }
    found.set(JSON.stringify(mapping), mapping)
  }
  return [...found.values()]
}

function bandwidthOf(asked: Bandwidth | null | undefined): Bandwidth | undefined {
  const { ingressRate = 0, ingressBurst = 0, egressRate = 0, egressBurst = 0 } = asked ?? {}
  if (ingressRate === 0 && egressRate === 0) return undefined
  return {
    ...(ingressRate === 0 ? {} : { ingressRate, ingressBurst }),
    ...(egressRate === 0 ? {} : { egressRate, egressBurst }),
  }
}
