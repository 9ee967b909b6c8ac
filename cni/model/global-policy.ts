/**
 * hawser.dev GlobalPolicy: what a cluster's administrator says of all pods beside the APIs of Kubernetes. Ordered rules
 * that allow, deny or pass on, with what those APIs lack: ICMP types, what is *not* matched, service accounts, networks
 * together with pods, rules that are logged, policies that are only tried (`staged`), and what the node itself receives.
 */
import { z } from 'zod'
import { domainName } from './cluster-network-policy.ts'
import { selectorSchema } from './labels.ts'
import { portName } from './network-policy.ts'

/** Rules of a direction; items of a list. */
const MAX_RULES = 256
const MAX_ITEMS = 256

export const GLOBAL_PROTOCOLS = {
  TCP: 6,
  UDP: 17,
  SCTP: 132,
  ICMP: 1,
  ICMPv6: 58,
} as const
const PORTED: readonly unknown[] = ['TCP', 'UDP', 'SCTP']
const ICMPS: readonly unknown[] = ['ICMP', 'ICMPv6']

const byte = z.int().min(0).max(255)
const number = z.int().min(1).max(65_535)
const cidr = z.string().max(43)
/** `80`, `"8000-8100"`. */
const range = z
  .string()
  .regex(/^[1-9][0-9]{0,4}-[1-9][0-9]{0,4}$/, { error: 'not a range of ports (FIRST-LAST)' })
  .refine(text => {
    const [first = 0, last = 0] = text.split('-').map(Number)
    return first <= last && last <= 65_535
  }, 'the range ends before it begins, or behind 65535')
const account = z.string().min(1).max(253)
const list = <T extends z.ZodType>(of: T) => z.array(of).min(1).max(MAX_ITEMS).optional()

const who = {
  namespaceSelector: selectorSchema.optional(),
  podSelector: selectorSchema.optional(),
  /** Names of service accounts. */
  serviceAccounts: list(account),
}

/** All of its fields must match. One that names namespaces, pods or service accounts means pods. */
const peer = z
  .strictObject({
    ...who,
    networks: list(cidr),
    notNetworks: list(cidr),
    /** What the pod has asked a resolver for; of egress rules that allow. */
    domainNames: list(domainName),
  })
  .refine(
    ({ domainNames, namespaceSelector, podSelector, serviceAccounts }) =>
      domainNames === undefined ||
      (namespaceSelector ?? podSelector ?? serviceAccounts) === undefined,
    { error: 'domainNames stand beside networks only, not beside what names pods' },
  )

const rule = z
  .strictObject({
    name: z.string().max(100).optional(),
    action: z.enum(['Allow', 'Deny', 'Pass']),
    /** Each new flow that it decides is told of. */
    log: z.boolean().default(false),
    protocol: z.union([z.enum(['TCP', 'UDP', 'SCTP', 'ICMP', 'ICMPv6']), byte]).optional(),
    icmp: z.strictObject({ type: byte, code: byte.optional() }).optional(),
    /** Of the destination: numbers, ranges, names. */
    ports: list(z.union([number, range, portName])),
    notPorts: list(z.union([number, range])),
    /** The other end; absent: everybody. */
    peer: peer.optional(),
  })
  .superRefine(({ action, protocol, icmp, ports, notPorts, peer }, context) => {
    const say = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message, input: path })
    }
    for (const [path, value] of Object.entries({ ports, notPorts })) {
      if (value !== undefined && !PORTED.includes(protocol)) {
        say(path, 'needs protocol TCP, UDP or SCTP')
      }
    }
    if (ports !== undefined && notPorts !== undefined) say('notPorts', 'either ports or notPorts')
    if (peer?.domainNames !== undefined && action !== 'Allow') {
      say('peer', 'domainNames are for Allow rules only')
    }
    if (icmp !== undefined && !ICMPS.includes(protocol)) {
      say('icmp', 'needs protocol ICMP or ICMPv6')
    }
  })

export const globalPolicySpec = z
  .strictObject({
    /** Smaller ones are asked first; of one order, by name. */
    order: z.number().min(-1e9).max(1e9).default(1000),
    /** Judged and counted, never enforced. */
    staged: z.boolean().default(false),
    /** Which pods; absent: all. */
    subject: z
      .strictObject({
        ...who,
        /** The node itself, for what it receives from pods: of each node, or of those whose labels are these. */
        host: z.strictObject({ nodeSelector: selectorSchema.optional() }).optional(),
      })
      .refine(({ host, ...pods }) => host === undefined || Object.keys(pods).length === 0, {
        error: 'host stands alone: it means no pods',
      })
      .optional(),
    ingress: z
      .array(
        rule.refine(({ peer }) => peer?.domainNames === undefined, {
          path: ['peer', 'domainNames'],
          error: 'domainNames are for egress rules only',
        }),
      )
      .max(MAX_RULES)
      .optional(),
    egress: z.array(rule).max(MAX_RULES).optional(),
  })
  .superRefine(({ subject, ingress, egress }, context) => {
    if (subject?.host === undefined) return
    const say = (path: (string | number)[], message: string): void => {
      context.addIssue({ code: 'custom', path, message, input: path })
    }
    if (egress !== undefined)
      say(['egress'], 'a host has ingress rules only: what it sends to pods is always let through')
    for (const [k, { ports }] of (ingress ?? []).entries()) {
      if (ports?.some(port => typeof port === 'string' && !/^[0-9]/.test(port))) {
        say(['ingress', k, 'ports'], 'a host has no named ports')
      }
    }
  })

export type GlobalPolicyRule = z.output<typeof rule>
export type GlobalPolicyPeer = z.output<typeof peer>

export interface GlobalPolicy {
  kind: 'GlobalPolicy'
  name: string
  spec: z.output<typeof globalPolicySpec>
}
