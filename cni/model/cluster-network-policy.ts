/**
 * policy.networking.k8s.io ClusterNetworkPolicy (network-policy-api, ClusterNetworkPolicySpec): what its fields
 * may be. A peer without a field that we know is of a later version of the API: it is let through, so that
 * its rule can fail closed (policy/cluster-network-policy.ts).
 */
import { z } from 'zod'
import { selectorSchema } from './labels.ts'
import { portName } from './network-policy.ts'

/** Rules of a direction, peers and protocols of a rule, CIDRs and names of a peer. */
const MAX_ITEMS = 25

const namespacedPods = z.strictObject({
  namespaceSelector: selectorSchema.nullish().transform(selector => selector ?? {}),
  podSelector: selectorSchema.nullish().transform(selector => selector ?? {}),
})

const number = z.int().min(1).max(65_535)
const port = z
  .strictObject({
    number: number.optional(),
    range: z
      .strictObject({ start: number, end: number })
      .refine(({ start, end }) => start < end, { error: 'start is not less than end' })
      .optional(),
  })
  .refine(({ number, range }) => (number === undefined) !== (range === undefined), {
    error: 'a port is either a number or a range',
  })
const ported = z.strictObject({ destinationPort: port.optional() })

const one = <T extends object>(of: T): boolean =>
  Object.values(of).filter(value => value !== undefined).length === 1

const protocolSchema = z
  .strictObject({
    tcp: ported.optional(),
    udp: ported.optional(),
    sctp: ported.optional(),
    destinationNamedPort: portName.optional(),
  })
  .refine(one, { error: 'exactly one of tcp, udp, sctp, destinationNamedPort' })

/** `*.` in front stands for one or more labels. */
const DOMAIN_NAME =
  /^(?:\*\.)?(?:[A-Za-z0-9](?:[-A-Za-z0-9_]*[A-Za-z0-9])?\.)+[A-Za-z0-9](?:[-A-Za-z0-9_]*[A-Za-z0-9])?\.?$/

/** Labels of at most 63 characters (RFC 1035 section 2.3.4). */
export const domainName = z
  .string()
  .max(253)
  .regex(DOMAIN_NAME, { error: 'not a domain name' })
  .refine(text => text.split('.').every(({ length }) => length <= 63), {
    error: 'a label of a domain name has at most 63 characters',
  })

/** A name, and no pattern of names. */
export const plainName = domainName.refine(text => !text.startsWith('*'), {
  error: 'a name, without "*."',
})

const known = {
  namespaces: selectorSchema.optional(),
  pods: namespacedPods.optional(),
}
const ingressPeer = z.looseObject(known)
const egressPeer = z.looseObject({
  ...known,
  nodes: selectorSchema.optional(),
  networks: z.array(z.string().max(43)).min(1).max(MAX_ITEMS).optional(),
  domainNames: z.array(domainName).min(1).max(MAX_ITEMS).optional(),
})

const action = z.enum(['Accept', 'Deny', 'Pass'])
const base = {
  name: z.string().max(100).optional(),
  action,
  protocols: z.array(protocolSchema).min(1).max(MAX_ITEMS).optional(),
}
const ingressRule = z.strictObject({ ...base, from: z.array(ingressPeer).min(1).max(MAX_ITEMS) })
const egressRule = z
  .strictObject({ ...base, to: z.array(egressPeer).min(1).max(MAX_ITEMS) })
  .superRefine((rule, context) => {
    const unnamed = rule.to.some(peer => peer.networks || peer.nodes || peer.domainNames)
    if (unnamed && rule.protocols?.some(each => each.destinationNamedPort !== undefined)) {
      const message = 'networks, nodes and domainNames have no named ports'
      context.addIssue({ code: 'custom', path: ['protocols'], message, input: rule.protocols })
    }
    if (rule.action !== 'Accept' && rule.to.some(peer => peer.domainNames)) {
      const message = 'domainNames are for Accept rules only'
      context.addIssue({ code: 'custom', path: ['to'], message, input: rule.to })
    }
  })

export const clusterNetworkPolicySpec = z.strictObject({
  tier: z.enum(['Admin', 'Baseline']),
  priority: z.int().min(0).max(1000),
  subject: z
    .strictObject({ namespaces: selectorSchema.optional(), pods: namespacedPods.optional() })
    .refine(one, { error: 'exactly one of namespaces, pods' }),
  ingress: z.array(ingressRule).max(MAX_ITEMS).nullish(),
  egress: z.array(egressRule).max(MAX_ITEMS).nullish(),
})

export type ClusterPolicySpec = z.output<typeof clusterNetworkPolicySpec>
export type ClusterPolicyRule = z.output<typeof ingressRule> | z.output<typeof egressRule>
export type ClusterPolicyPeer = z.output<typeof egressPeer>
export type ClusterPolicyProtocol = z.output<typeof protocolSchema>

export interface ClusterNetworkPolicy {
  kind: 'ClusterNetworkPolicy'
  name: string
  spec: ClusterPolicySpec
}
