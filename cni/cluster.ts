/**
 * The cluster file: every node's name, VTEP and pod CIDRs. It is the whole truth about the overlay;
 * one wrong line would send pods' traffic to the wrong node, so a file is taken whole or not at all.
 *
 *     nodes:
 *       - name: node-a
 *         vtep: 192.0.2.11
 *         podCIDRs: [10.244.0.0/24, fd00:10:244::/64]
 */
import { z } from 'zod'
import type { NodeSpec } from '../dataplane/control.ts'
import { type Address, type Cidr, contains, parseAddress, parsePodCidr } from './cidr.ts'
import { clean, DocumentError, type Problem, parseText, readBounded, validate } from './document.ts'
import { watchFile } from './watch-file.ts'

/** This node and all the others, in the file's order. */
export interface ClusterView {
  self: NodeSpec
  peers: NodeSpec[]
}

export interface Closer {
  close(): void
}

/** Largest number of nodes; the engine's table of VTEPs is half full then (dataplane/limits.ts). */
export const MAX_NODES = 2048

const nodeSchema = z.strictObject({
  name: z.string(),
  vtep: z.string(),
  vtepMac: z.string().optional(),
  podCIDRs: z.array(z.string()).min(1),
})
const clusterSchema = z.strictObject({ nodes: z.array(nodeSchema).min(1).max(MAX_NODES) })

type FileNode = z.output<typeof nodeSchema>

/** RFC 1123 subdomain, as Kubernetes names nodes. */
const NODE_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/** Whether `name` is a DNS-1123 subdomain of at most 253 characters. */
export function isNodeName(name: string): boolean {
  return name.length <= 253 && NODE_NAME.test(name)
}

interface Owned<T> {
  node: number
  name: string
  value: T
}

/** What was understood of the file, and what is wrong with it. */
class Checker {
  readonly problems: Problem[] = []
  readonly names = new Map<string, number>()
  readonly macs = new Map<string, number>()
  readonly vteps: Owned<Address>[] = []
  readonly cidrs: (Owned<Cidr> & { index: number })[] = []

  node(node: FileNode, index: number): NodeSpec {
    const at = ['nodes', index]
    this.#name(node.name, index)
    const vtep = parseAddress(node.vtep)
    if (vtep.ok) this.vteps.push({ node: index, name: node.name, value: vtep.value })
    else this.#problem([...at, 'vtep'], node.vtep, vtep.cause)
    const families = new Set<number>()
    const podCidrs = node.podCIDRs.map((text, each) => {
      const path = [...at, 'podCIDRs', each]
      const cidr = parsePodCidr(text)
      if (!cidr.ok) {
        this.#problem(path, text, cidr.cause)
        return text
      }
      const { family } = cidr.value
      if (families.has(family)) this.#problem(path, text, `a second IPv${family} CIDR of this node`)
      families.add(family)
      this.cidrs.push({ node: index, name: node.name, index: each, value: cidr.value })
      return cidr.value.text
    })
    const spec = { name: node.name, vtep: vtep.ok ? vtep.value.text : node.vtep, podCidrs }
    return node.vtepMac === undefined ? spec : { ...spec, vtepMac: this.#mac(node.vtepMac, index) }
  }

  /** What no node can be asked alone: VTEPs unique and of one family, CIDRs apart. */
  whole(): void {
    const seen = new Map<string, Owned<Address>>()
    const family = this.vteps[0]?.value.family
    for (const vtep of this.vteps) {
      const path = ['nodes', vtep.node, 'vtep']
      const { text } = vtep.value
      const other = seen.get(text)
      if (other)
        this.#problem(path, text, `also the VTEP of nodes[${other.node}] (${clean(other.name)})`)
      seen.set(text, vtep)
      if (vtep.value.family !== family) {
        this.#problem(path, text, `not IPv${family} as the VTEPs before it`)
      }
    }
    this.#overlaps()
    this.#vtepsInPodCidrs()
  }

  /** Sorted by first address, a range overlaps some earlier one exactly if it begins before the furthest end. */
  #overlaps(): void {
    for (const sorted of this.#sorted()) {
      let furthest = sorted[0]
      for (const cidr of sorted.slice(1)) {
        if (furthest && cidr.value.first <= furthest.value.last) {
          const other = `nodes[${furthest.node}].podCIDRs[${furthest.index}]`
          const path = ['nodes', cidr.node, 'podCIDRs', cidr.index]
          const cause = `overlaps ${other}, ${furthest.value.text} of ${clean(furthest.name)}`
          if (cidr.node !== furthest.node) this.#problem(path, cidr.value.text, cause)
        }
        if (!furthest || cidr.value.last > furthest.value.last) furthest = cidr
      }
    }
  }

  /** An outer packet to such a VTEP would be routed back into the overlay. */
  #vtepsInPodCidrs(): void {
    for (const sorted of this.#sorted()) {
      for (const vtep of this.vteps) {
        const { value } = vtep
        let low = 0
        let high = sorted.length
        while (low < high) {
          const middle = (low + high) >>> 1
          if ((sorted[middle]?.value.first ?? 0n) <= value.value) low = middle + 1
          else high = middle
        }
        const below = sorted[low - 1]
        if (!below || !contains(below.value, value)) continue
        const cause = `inside the pod CIDR ${below.value.text} of ${clean(below.name)}`
        this.#problem(['nodes', vtep.node, 'vtep'], value.text, cause)
      }
    }
  }

  #sorted(): Checker['cidrs'][] {
    return ([4, 6] as const).map(family =>
      this.cidrs
        .filter(cidr => cidr.value.family === family)
        .sort((a, b) =>
          a.value.first < b.value.first ? -1 : a.value.first > b.value.first ? 1 : a.node - b.node,
        ),
    )
  }

  #name(name: string, index: number): void {
    const path = ['nodes', index, 'name']
    if (!isNodeName(name)) {
      this.#problem(path, name, 'not a DNS-1123 name (lower case letters, digits, "-" and ".")')
    }
    const other = this.names.get(name)
    if (other !== undefined) this.#problem(path, name, `also the name of nodes[${other}]`)
    else this.names.set(name, index)
  }

  #mac(text: string, index: number): string {
    const path = ['nodes', index, 'vtepMac']
    const mac = text.toLowerCase()
    if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac)) {
      this.#problem(path, text, 'not a MAC address (aa:bb:cc:dd:ee:ff)')
    } else if (Number.parseInt(mac.slice(0, 2), 16) & 1 || mac === '00:00:00:00:00:00') {
      this.#problem(path, text, 'not a unicast MAC address')
    }
    const other = this.macs.get(mac)
    if (other !== undefined) this.#problem(path, text, `also the vtepMac of nodes[${other}]`)
    else this.macs.set(mac, index)
    return mac
  }

  #problem(path: PropertyKey[], value: string, cause: string): void {
    this.problems.push({ path, cause: `${clean(value)}: ${cause}` })
  }
}

/** Checks the text of a cluster file as `nodeName` sees it; throws DocumentError. */
export function parseCluster(file: string, text: string, nodeName: string): ClusterView {
  const { nodes } = validate(file, clusterSchema, parseText(file, text))
  const checker = new Checker()
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
  return { self, peers: specs.filter(node => node !== self) }
}

/** A cluster file on disk, seen from one node. */
export class ClusterFile {
  readonly path: string
  readonly nodeName: string

  constructor(path: string, nodeName: string) {
    this.path = path
    this.nodeName = nodeName
  }

  /** Reads and checks the file; throws DocumentError. */
  static read(path: string, nodeName: string): ClusterView {
    return parseCluster(path, readBounded(path), nodeName)
  }

  /**
   * Calls `onChange` with the whole new view whenever the file's content has changed from `current`
   * (what the caller runs with), and `onError` when the new content can't be used: then the last
   * good view stays in force, and an error that stays the same is told once. Call `close` to stop.
   */
  watch(
    current: ClusterView,
    onChange: (view: ClusterView) => void,
    onError: (error: Error) => void,
  ): Closer {
    let known = JSON.stringify(current)
    let told = ''
    return watchFile(
      this.path,
      () => {
        try {
          const view = ClusterFile.read(this.path, this.nodeName)
          told = ''
          const text = JSON.stringify(view)
          if (text === known) return
          known = text
          onChange(view)
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
