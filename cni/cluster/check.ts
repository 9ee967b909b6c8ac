/**
 * What a cluster file must be beyond its schema (cluster.ts): names, addresses and VNIs that are none or
 * are there twice, and CIDRs that overlap. Every problem is collected with its place in the file.
 */

import type { NetworkSpec, NodeSpec } from '../../dataplane/control.ts'
import { clean, type FieldPath, fieldPath, type Problem } from '../base/document.ts'
import { type Address, type Cidr, contains, parseAddress, parsePodCidr } from '../netip/cidr.ts'
import type { FileNetwork, FileNode } from './schema.ts'

/** RFC 1123 subdomain, as Kubernetes names nodes. */
const NODE_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/** Whether `name` is a DNS-1123 subdomain of at most 253 characters. */
export function isNodeName(name: string): boolean {
  return name.length <= 253 && NODE_NAME.test(name)
}

/** DNS-1123 label, as networks are named. */
const NETWORK_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/

interface Owned<T> {
  node: number
  name: string
  value: T
}

/** A CIDR of the file: a node's in a network, or one that covers a network (`node` is -1). */
interface Placed extends Owned<Cidr> {
  /** Absent: the cluster's own. */
  network: string | undefined
  path: FieldPath
}

/** What was understood of the file, and what is wrong with it. */
export class ClusterChecker {
  readonly problems: Problem[] = []
  readonly names = new Map<string, number>()
  readonly macs = new Map<string, number>()
  readonly vteps: Owned<Address>[] = []
  readonly cidrs: Placed[] = []
  readonly networks = new Map<string, FileNetwork>()
  readonly covers: Placed[] = []

  node(node: FileNode, index: number): NodeSpec {
    const at = ['nodes', index]
    this.#name(node.name, index)
    const vtep = parseAddress(node.vtep)
    if (vtep.ok) this.vteps.push({ node: index, name: node.name, value: vtep.value })
    else this.#problem([...at, 'vtep'], node.vtep, vtep.cause)
    const podCidrs = this.#podCidrs(node, index, undefined, node.podCIDRs, [...at, 'podCIDRs'])
    const networks: Record<string, string[]> = {}
    for (const [name, cidrs] of Object.entries(node.networks ?? {})) {
      const path = [...at, 'networks', name]
      if (this.networks.has(name)) networks[name] = this.#podCidrs(node, index, name, cidrs, path)
      else this.#problem(path, name, 'no such network ("networks" of the file)')
    }
    const spec = {
      name: node.name,
      vtep: vtep.ok ? vtep.value.text : node.vtep,
      podCidrs,
      ...(Object.keys(networks).length === 0 ? {} : { networks }),
    }
    return node.vtepMac === undefined ? spec : { ...spec, vtepMac: this.#mac(node.vtepMac, index) }
  }

  /** Before the nodes, which name them. `vni`: the cluster's own. */
  network(network: FileNetwork, index: number, vni: number): NetworkSpec {
    const at = ['networks', index]
    const { name } = network
    if (!NETWORK_NAME.test(name)) {
      const cause = 'not a DNS-1123 label (at most 63 lower case letters, digits and "-")'
      this.#problem([...at, 'name'], name, cause)
    }
    const others = [...this.networks.values()]
    const same = others.findIndex(each => each.name === name)
    if (same >= 0) this.#problem([...at, 'name'], name, `also the name of networks[${same}]`)
    else this.networks.set(name, network)
    const twin = others.findIndex(each => each.vni === network.vni)
    if (twin >= 0)
      this.#problem([...at, 'vni'], `${network.vni}`, `also the VNI of networks[${twin}]`)
    if (network.vni === vni) {
      this.#problem([...at, 'vni'], `${vni}`, "the VNI of the cluster's own network")
    }
    const cidrs = network.cidrs?.map((text, each) => {
      const path = [...at, 'cidrs', each]
      const cidr = parsePodCidr(text)
      if (!cidr.ok) {
        this.#problem(path, text, cidr.cause)
        return text
      }
      this.covers.push({ node: -1, name, network: name, value: cidr.value, path })
      return cidr.value.text
    })
    return { name, vni: network.vni, ...(cidrs === undefined ? {} : { cidrs }) }
  }

  /** A node's CIDRs in a network, at most one of each family. */
  #podCidrs(
    { name }: FileNode,
    node: number,
    network: string | undefined,
    cidrs: readonly string[],
    at: FieldPath,
  ): string[] {
    const families = new Set<number>()
    return cidrs.map((text, each) => {
      const path = [...at, each]
      const cidr = parsePodCidr(text)
      if (!cidr.ok) {
        this.#problem(path, text, cidr.cause)
        return text
      }
      const { family } = cidr.value
      if (families.has(family)) {
        const where = network === undefined ? '' : ' in it'
        this.#problem(path, text, `a second IPv${family} CIDR of this node${where}`)
      } else this.cidrs.push({ node, name, network, value: cidr.value, path })
      families.add(family)
      return cidr.value.text
    })
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
    this.#overlaps(this.cidrs, () => true)
    if (this.covers.length > 0) {
      // Nothing of a network lies outside of what covers it, and nothing of others inside.
      const wrong = (a: Placed, b: Placed): boolean =>
        a.network === b.network ? a.node < 0 && b.node < 0 : a.node < 0 || b.node < 0
      this.#overlaps([...this.covers, ...this.cidrs], wrong)
      this.#outside()
    }
    this.#vtepsInside(this.cidrs)
    this.#vtepsInside(this.covers)
  }

  /** Sorted by first address, a range overlaps some earlier one exactly if it begins before the furthest end. */
  #overlaps(cidrs: readonly Placed[], wrong: (a: Placed, b: Placed) => boolean): void {
    for (const sorted of byFamily(cidrs)) {
      let furthest = sorted[0]
      for (const cidr of sorted.slice(1)) {
        if (furthest && cidr.value.first <= furthest.value.last && wrong(furthest, cidr)) {
          const other = `${fieldPath(furthest.path)}, ${furthest.value.text} of ${clean(furthest.name)}`
          this.#problem(cidr.path, cidr.value.text, `overlaps ${other}`)
        }
        if (!furthest || cidr.value.last > furthest.value.last) furthest = cidr
      }
    }
  }

  #outside(): void {
    for (const { network, value, path } of this.cidrs) {
      const covers = this.covers.filter(each => each.network === network)
      const inside = (cover: Cidr): boolean =>
        cover.family === value.family && cover.first <= value.first && value.last <= cover.last
      if (covers.length === 0 || covers.some(each => inside(each.value))) continue
      const all = covers.map(each => each.value.text).join(', ')
      this.#problem(path, value.text, `not inside the network's cidrs (${all})`)
    }
  }

  /** An outer packet to such a VTEP would be routed back into the overlay; a pod's to it into the network. */
  #vtepsInside(cidrs: readonly Placed[]): void {
    for (const sorted of byFamily(cidrs)) {
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
        const which = below.node < 0 ? 'of network' : 'the pod CIDR'
        const cause = `inside ${which} ${below.value.text} of ${clean(below.name)}`
        this.#problem(['nodes', vtep.node, 'vtep'], value.text, cause)
      }
    }
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

  #problem(path: FieldPath, value: string, cause: string): void {
    this.problems.push({ path, cause: `${clean(value)}: ${cause}` })
  }
}

function byFamily(cidrs: readonly Placed[]): Placed[][] {
  return ([4, 6] as const).map(family =>
    cidrs
      .filter(cidr => cidr.value.family === family)
      .sort((a, b) =>
        a.value.first < b.value.first ? -1 : a.value.first > b.value.first ? 1 : a.node - b.node,
      ),
  )
}
