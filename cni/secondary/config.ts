/**
 * `networks` of a network configuration: what gives a pod further interfaces beside ours. Each is a
 * CNI network list of its own (specification 1.1.0, "Network configuration format"):
 *
 *     { "name": "storage", "ifname": "net1", "when": "asked", "cniVersion": "1.0.0",
 *       "plugins": [ { "type": "macvlan", "master": "eth1", "ipam": { "type": "dhcp" } } ] }
 *
 * All pods get it, or with `"when": "asked"` only those whose annotation `hawser.dev/networks` names
 * it. What a plugin sees of the runtime's `runtimeConfig` are the capabilities that it names itself. A
 * plugin `hawser` may have `routes` (`[{ "dst": CIDR }]`): what lies behind its interface.
 */

import { z } from 'zod'
import { clean } from '../base/document.ts'
import { parsePodCidr } from '../netip/cidr.ts'
import { annotationList, wrongRequest } from '../spec/annotations.ts'
import { check } from '../spec/check.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { delegateProblem, ifnameProblem, nameProblem } from '../spec/names.ts'
import { inNamespace, namespacesSchema } from '../spec/namespaces.ts'
import { CNI_VERSIONS, type CniVersion } from '../spec/versions.ts'

export const NETWORKS_ANNOTATION = 'hawser.dev/networks'
/** Further interfaces of a configuration, and plugins of one of them. */
export const MAX_NETWORKS = 16
export const MAX_PLUGINS = 16
/** Networks that one of our own is the way to. */
export const MAX_ROUTES = 64
/** The plugin that is the daemon itself: its calls don't leave the process. */
export const OWN_TYPE = 'hawser'

/** Text of which `problem` knows nothing wrong. */
const text = (problem: (value: string) => string | undefined) =>
  z.string().superRefine((value, context) => {
    const cause = problem(value)
    if (cause === undefined) return
    context.addIssue({ code: 'custom', message: `${clean(value)}: ${cause}`, input: value })
  })

const pluginSchema = z
  .looseObject({
    type: text(delegateProblem),
    capabilities: z.record(z.string(), z.boolean()).nullish(),
  })
  .superRefine(({ type, networks }: Record<string, unknown>, context) => {
    if (type !== OWN_TYPE || networks === undefined) return
    const message = 'a further interface has none of its own'
    context.addIssue({ code: 'custom', message, path: ['networks'], input: networks })
  })

const networkSchema = z.looseObject({
  name: text(nameProblem),
  ifname: text(ifnameProblem),
  when: z.enum(['always', 'asked']).default('always'),
  cniVersion: z.enum(CNI_VERSIONS).optional(),
  disableCheck: z.boolean().nullish(),
  namespaces: namespacesSchema,
  plugins: z.array(pluginSchema).min(1).max(MAX_PLUGINS),
})

const networksSchema = z
  .array(networkSchema)
  .max(MAX_NETWORKS)
  .nullish()
  .superRefine((networks, context) => {
    const list = networks ?? []
    for (const key of ['name', 'ifname'] as const) {
      const values = list.map(each => each[key])
      const twice = values.findIndex((value, k) => values.indexOf(value) !== k)
      if (twice < 0) continue
      const message = `${clean(values[twice])}: another one has it`
      context.addIssue({ code: 'custom', message, path: [twice, key], input: values[twice] })
    }
  })

const runtimeSchema = z.looseObject({}).nullish()

const cidr = z.string().transform((value, context) => {
  const parsed = parsePodCidr(value)
  if (parsed.ok) return parsed.value.text
  const message = `${clean(value)}: ${parsed.cause}`
  context.addIssue({ code: 'custom', message, input: value })
  return z.NEVER
})
const routesSchema = z
  .array(z.looseObject({ dst: cidr }))
  .max(MAX_ROUTES)
  .nullish()

/** A plugin's configuration without what is put into it for each call. */
export interface PluginConfig extends Record<string, unknown> {
  type: string
}

/** A network, as it is kept with the attachment. */
export interface SecondaryNetwork {
  name: string
  ifname: string
  cniVersion: CniVersion
  /** No CHECK is to be made (the same key of a network list). */
  disableCheck?: true
  /** In the order in which ADD calls them; at least one. */
  plugins: PluginConfig[]
}

/** One that is configured: whether only pods that ask for it get it, and the namespaces that it is for (absent: all). */
export type ConfiguredNetwork = SecondaryNetwork & {
  asked: boolean
  namespaces?: readonly string[]
}

/**
 * `networks` of a configuration of version `version`, which is a network's own when it says none.
 * Throws CniError (code 7).
 */
export function networksIn(document: unknown, version: CniVersion): ConfiguredNetwork[] {
  const { networks, runtimeConfig } = (document ?? {}) as Record<string, unknown>
  const given = check(runtimeSchema, runtimeConfig, ['runtimeConfig']) ?? {}
  return (check(networksSchema, networks, ['networks']) ?? []).map(each => {
    const { name, ifname, when, cniVersion = version, disableCheck, namespaces, plugins } = each
    return {
      ...{ name, ifname, cniVersion, asked: when === 'asked' },
      ...(disableCheck === true ? { disableCheck } : {}),
      ...(namespaces == null ? {} : { namespaces }),
      plugins: plugins.map(plugin => withRuntime(plugin, given)),
    }
  })
}

/** With those parts of the runtime's configuration that its own capabilities name. */
function withRuntime(
  { prevResult: _, ...plugin }: z.output<typeof pluginSchema>,
  given: Readonly<Record<string, unknown>>,
): PluginConfig {
  const names = Object.entries(plugin.capabilities ?? {})
    .filter(([name, wanted]) => wanted && Object.hasOwn(given, name))
    .map(([name]) => name)
  if (names.length === 0) return plugin
  return { ...plugin, runtimeConfig: Object.fromEntries(names.map(name => [name, given[name]])) }
}

/**
 * The networks that a pod of `namespace` gets, whose first interface is `ifname`. Throws CniError (code 7), also
 * when its annotation names one that isn't configured, or isn't for its namespace.
 */
export function networksFor(
  document: unknown,
  version: CniVersion,
  { ifname, namespace }: { ifname: string; namespace: string },
): SecondaryNetwork[] {
  const networks = networksIn(document, version)
  const same = networks.find(each => each.ifname === ifname)
  if (same !== undefined) {
    const what = `networks: ${clean(same.name)}: ${clean(ifname)}`
    throw new CniError(CODE.config, `${what}: it is CNI_IFNAME, the pod's first interface`)
  }
  const asked = new Set(annotationList(document, NETWORKS_ANNOTATION, 'networks'))
  for (const name of asked) {
    const found = networks.find(each => each.name === name)
    if (found !== undefined && isFor(found, namespace)) continue
    if (found !== undefined) {
      throw wrongRequest(
        `annotation ${NETWORKS_ANNOTATION}`,
        `${clean(name)}: this network is for pods of ${found.namespaces!.join(', ')}, not for ${inNamespace(clean(namespace))}`,
      )
    }
    const names = networks.map(each => each.name)
    const there = names.length === 0 ? 'there are none' : `there are ${names.join(', ')}`
    throw wrongRequest(
      `annotation ${NETWORKS_ANNOTATION}`,
      `${clean(name)}: no such network, ${there}`,
    )
  }
  return networks
    .filter(each => isFor(each, namespace) && (!each.asked || asked.has(each.name)))
    .map(({ asked: _, namespaces: __, ...network }) => network)
}

function isFor({ namespaces }: ConfiguredNetwork, namespace: string): boolean {
  return namespaces?.includes(namespace) ?? true
}

/** What leaves by a further interface of our own, as CIDRs. Throws CniError (code 7). */
export function routesIn(document: unknown): string[] {
  const { routes } = (document ?? {}) as Record<string, unknown>
  return (check(routesSchema, routes, ['routes']) ?? []).map(each => each.dst)
}
