/** networking.k8s.io/v1 NetworkPolicy: what its fields may be (k8s.io/api/networking/v1/types.go). */
import { z } from 'zod'
import { selectorSchema } from './labels.ts'

export const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const
export type PortProtocol = (typeof PROTOCOLS)[number]

/** Rules, peers and ports of one policy, at most; the API server's own bound is an object of 1.5 MB. */
export const MAX_ITEMS = 16_384

const portNumber = z.int().min(1).max(65_535)
/** IANA service name: what a container's port may be called. */
export const portName = z
  .string()
  .regex(/^(?=.*[a-z])(?!.*--)[a-z0-9](?:[-a-z0-9]{0,13}[a-z0-9])?$/, {
    error: 'not the name of a port',
  })

const portSchema = z
  .strictObject({
    protocol: z.enum(PROTOCOLS).nullish(),
    port: z.union([portNumber, portName]).nullish(),
    endPort: portNumber.nullish(),
  })
  .superRefine(({ port, endPort }, context) => {
    if (endPort === null || endPort === undefined) return
    const message =
      typeof port !== 'number'
        ? 'endPort needs a port that is a number'
        : endPort < port
          ? `endPort is less than port ${port}`
          : undefined
    if (message === undefined) return
    context.addIssue({ code: 'custom', path: ['endPort'], message, input: endPort })
  })

const peerSchema = z
  .strictObject({
    podSelector: selectorSchema.nullish(),
    namespaceSelector: selectorSchema.nullish(),
    ipBlock: z
      .strictObject({ cidr: z.string(), except: z.array(z.string()).max(MAX_ITEMS).nullish() })
      .nullish(),
  })
  .superRefine((peer, context) => {
    const { podSelector, namespaceSelector, ipBlock } = peer
    const selected = (podSelector ?? namespaceSelector) != null
    const blocked = ipBlock != null
    if (selected !== blocked) return
    const message = selected
      ? 'ipBlock stands beside a selector: a peer is one or the other'
      : 'a peer needs podSelector, namespaceSelector or ipBlock'
    context.addIssue({ code: 'custom', message, input: peer })
  })

const ports = z.array(portSchema).max(MAX_ITEMS).nullish()
const peers = z.array(peerSchema).max(MAX_ITEMS).nullish()

export type NetworkPolicyPort = z.output<typeof portSchema>
export type NetworkPolicyPeer = z.output<typeof peerSchema>

export const networkPolicySpec = z.strictObject({
  /** Absent or empty: all pods of the namespace (the field is optional since 1.34). */
  podSelector: selectorSchema.nullish().transform(selector => selector ?? {}),
  policyTypes: z
    .array(z.enum(['Ingress', 'Egress']))
    .max(2)
    .nullish(),
  ingress: z
    .array(z.strictObject({ ports, from: peers }))
    .max(MAX_ITEMS)
    .nullish(),
  egress: z
    .array(z.strictObject({ ports, to: peers }))
    .max(MAX_ITEMS)
    .nullish(),
})

export interface NetworkPolicy {
  kind: 'NetworkPolicy'
  namespace: string
  name: string
  spec: z.output<typeof networkPolicySpec>
}

/**
 * The directions in which a policy isolates. Without `policyTypes` (or with an empty one) every policy is one of
 * Ingress, and of Egress when it has a field `egress` with something in it.
 */
export function isolates({ spec }: NetworkPolicy): { ingress: boolean; egress: boolean } {
  const { policyTypes, egress } = spec
  if (policyTypes && policyTypes.length > 0) {
    return { ingress: policyTypes.includes('Ingress'), egress: policyTypes.includes('Egress') }
  }
  return { ingress: true, egress: (egress?.length ?? 0) > 0 }
}
