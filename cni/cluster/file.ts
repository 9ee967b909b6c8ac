/**
 * The cluster file: every node's name, VTEP and pod CIDRs. It is the whole truth about the overlay;
 * one wrong line would send pods' traffic to the wrong node, so a file is taken whole or not at all.
 *
 *     nodes:
 *       - name: node-a
 *         vtep: 192.0.2.11
 *         podCIDRs: [10.244.0.0/24, fd00:10:244::/64]
 *         networks: { blue: [10.60.0.0/24] }
 *     networks:
 *       - name: blue
 *         vni: 100
 *         cidrs: [10.60.0.0/16]
 *
 * One check holds all CIDRs apart, of the cluster's own network and of the others: the packet engine
 * has one table for them.
 */

import { DEFAULT_VNI } from '../../dataplane/limits.ts'
import { clean, DocumentError, parseText, readBounded, validate } from '../base/document.ts'
import { watchFile } from '../fs/watch.ts'
import { ClusterChecker } from './check.ts'
import { clusterSchema } from './schema.ts'
import type { Closer, ClusterView } from './view.ts'

/** Checks the text of a cluster file as `nodeName`, whose daemon has `vni`, sees it; throws DocumentError. */
export function parseCluster(
  file: string,
  text: string,
  nodeName: string,
  vni = DEFAULT_VNI,
): ClusterView {
  const { nodes, networks } = validate(file, clusterSchema, parseText(file, text))
  const checker = new ClusterChecker()
  const others = networks.map((network, index) => checker.network(network, index, vni))
  const specs = nodes.map((node, index) => checker.node(node, index))
  checker.whole()
  if (checker.problems.length > 0) throw new DocumentError(file, checker.problems)
  const self = specs.find(node => node.name === nodeName)
  if (!self) {
    const names = specs
      .slice(0, 5)
      .map(node => node.name)
      .join(', ')
    const cause = `no node is named ${clean(nodeName)} (there: ${names}${specs.length > 5 ? ', ...' : ''}); set "node" or --node`
    throw new DocumentError(file, [{ path: ['nodes'], cause }])
  }
  return { self, peers: specs.filter(node => node !== self), networks: others }
}

/** A cluster file on disk, seen from one node. */
export class ClusterFile {
  readonly path: string
  readonly nodeName: string
  readonly vni: number

  /** `vni`: of the cluster's own network. */
  constructor(path: string, nodeName: string, vni = DEFAULT_VNI) {
    this.path = path
    this.nodeName = nodeName
    this.vni = vni
  }

  /** Reads and checks the file; throws DocumentError. */
  static read(path: string, nodeName: string, vni = DEFAULT_VNI): ClusterView {
    return parseCluster(path, readBounded(path), nodeName, vni)
  }

  /**
   * Calls `onView` with the whole view whenever the file's content has changed from `current` (what the
   * caller runs with), and when it can be used again after an error; `onError` when it can't be used: then the
   * last good view stays in force, and an error that stays the same is told once. Call `close` to stop.
   */
  watch(
    current: ClusterView,
    onView: (view: ClusterView) => void,
    onError: (error: Error) => void,
  ): Closer {
    let known = JSON.stringify(current)
    let told = ''
    let latest = current
    // A file of thousands of nodes takes a second to check, and it is looked at every few seconds.
    let checked: string | undefined
    return watchFile(
      this.path,
      () => {
        try {
          const before = checked
          // One that can't be read may come back as it was.
          checked = undefined
          checked = readBounded(this.path)
          if (checked === before) return
          const view = parseCluster(this.path, checked, this.nodeName, this.vni)
          const text = JSON.stringify(view)
          if (text === known && told === '') return
          if (text !== known) latest = view
          told = ''
          known = text
          onView(latest)
        } catch (error) {
          if ((error as Error).message === told) return
          told = (error as Error).message
          onError(error as Error)
        }
      },
      onError,
    )
  }
}
