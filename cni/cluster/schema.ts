/** What a cluster file may look like: field by field; cluster-check.ts holds the fields against each other. */
import { z } from 'zod'
import { MAX_NETWORKS, MAX_PEERS, MAX_VNI } from '../../dataplane/limits.ts'

/** Largest number of nodes that any engine takes, this one included; a given one may take fewer, and says so. */
export const MAX_NODES = MAX_PEERS + 1

/** CIDRs that cover a network. */
export const MAX_NETWORK_CIDRS = 64

const nodeSchema = z.strictObject({
  name: z.string(),
  vtep: z.string(),
  vtepMac: z.string().optional(),
  podCIDRs: z.array(z.string()).min(1),
  networks: z.record(z.string(), z.array(z.string())).optional(),
})

const networkSchema = z.strictObject({
  name: z.string(),
  vni: z.int().min(1).max(MAX_VNI),
  cidrs: z.array(z.string()).min(1).max(MAX_NETWORK_CIDRS).optional(),
})

export const clusterSchema = z.strictObject({
  nodes: z.array(nodeSchema).min(1).max(MAX_NODES),
  networks: z.array(networkSchema).max(MAX_NETWORKS).default([]),
})

export type FileNode = z.output<typeof nodeSchema>

export type FileNetwork = z.output<typeof networkSchema>
