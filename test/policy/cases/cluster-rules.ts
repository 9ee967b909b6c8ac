/** What the cases of ClusterNetworkPolicy are built from. */
import type { Line } from '../world.ts'

/** A selector by namespace: of namespaces, and of pods, which have the label, too. */
export const ns = (name: string) => ({ matchLabels: { ns: name } })
/** The peer, or the subject, that is one namespace. */
export const namespaces = (name: string) => ({ namespaces: ns(name) })
export const W = namespaces('w')
/** Lines, and the same the other way round. */
export const both = (...lines: Line[]) =>
  lines.flatMap(([from, to, allowed]): Line[] => [
    [from, to, allowed],
    [to, from, allowed],
  ])
/** One rule for either direction. */
export const rules = (action: string, peer: object, more: object = {}) => ({
  ingress: [{ action, from: [peer], ...more }],
  egress: [{ action, to: [peer], ...more }],
})
