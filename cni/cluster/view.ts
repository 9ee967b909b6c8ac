/** What a source of the cluster's nodes gives: the cluster as this node sees it. */
import type { NetworkSpec, NodeSpec } from '../../dataplane/control.ts'

/** This node, all the others, and the networks beside the cluster's own, in the file's order. */
export interface ClusterView {
  self: NodeSpec
  peers: NodeSpec[]
  networks: NetworkSpec[]
}

export interface Closer {
  close(): void
}
