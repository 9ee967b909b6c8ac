/**
 * The node's own side of the engine, put together: its port with addresses and routes, masquerading, port
 * mappings, and what its firewall lets through. It follows the cluster and the pods, and looks after all
 * of it (weather/weather.ts).
 */

import { gatewayOf, parseCidr } from '../addresses.ts'
import type { NodeSpec } from '../control.ts'
import { hostPrefix } from '../manage/cluster.ts'
import type { Parts } from '../manage/parts.ts'
import { PortMappings } from '../manage/port-mappings.ts'
import type { Routes } from '../manage/routes.ts'
import type { Weather } from '../weather/weather.ts'
import { Forward } from './forward.ts'
import { Masquerade } from './masquerade.ts'
import { HostPort } from './port.ts'
import { Strays } from './strays.ts'

export interface HostSpec {
  /** Name of the device. */
  name: string
  mtu: number
  vxlanPort: number
  masquerade: boolean
  weather: Weather
  /** Addresses of the node's pods in the cluster's own network. */
  pods: () => readonly string[]
  /** Called inside a change of the tables when `port` has become another one. */
  moved: () => void
}

export class Host {
  readonly mappings: PortMappings
  private readonly spec: HostSpec
  private readonly routing: Routes
  private readonly own: HostPort
  private readonly masquerade: Masquerade
  private readonly strays = new Strays()
  private self: readonly string[] = []
  private cluster: readonly string[] = []
  /** Gateways of former CIDRs that the engine routes to the node. */
  private gateways: readonly string[] = []
  /** Pods outside of the CIDRs, as they were last told to the kernel. */
  private told = ''

  constructor(parts: Parts, routing: Routes, spec: HostSpec) {
    const { name, mtu, vxlanPort, weather, moved } = spec
    const { conditions } = weather
    this.spec = spec
    this.routing = routing
    this.own = new HostPort(parts, { name, mtu, conditions }, moved)
    this.masquerade = new Masquerade(conditions)
    this.mappings = new PortMappings(name, vxlanPort, parts.log)
    const forward = new Forward(name, conditions)
    weather.add('the host device', ['link', 'address', 'route', 'netconf'], () => {
      this.own.localnet = this.mappings.active
      return this.own.look()
    })
    weather.add('masquerading', ['nft'], () => this.masquerade.look())
    weather.add('port mappings', ['nft'], () => this.mappings.look(conditions))
    weather.add("the node's firewall", ['nft'], () => forward.look())
  }

  get name(): string {
    return this.spec.name
  }

  /** Index of its port. */
  get port(): number {
    return this.own.port
  }

  /** Its next hop, the same as long as the engine runs. */
  get hop(): number {
    return this.own.hop
  }

  open(): void {
    this.own.open()
  }

  /** What the engine routes to the node for pods outside of its CIDRs. */
  get prefixes(): string[] {
    return this.gateways.map(hostPrefix)
  }

  /** The cluster is this one now, or was before. Throws when nft refuses. */
  async follow(self: NodeSpec, peers: readonly NodeSpec[]): Promise<void> {
    this.strays.follow(this.self, self.podCidrs)
    this.self = self.podCidrs
    this.cluster = [...self.podCidrs, ...peers.flatMap(peer => peer.podCidrs)]
    await this.align()
  }

  /** Pods have come or gone. The kernel is told when some are, or were, outside of the node's CIDRs. */
  async podsMoved(): Promise<void> {
    if (this.strayText() !== this.told) await this.align()
  }

  /** What nobody tells of: looked at when pods are attached. Returns whether something had to be put right. */
  mendSwitches(): boolean {
    return this.own.mendSwitchesAgain()
  }

  private strayText(): string {
    return this.strays.among(this.spec.pods(), this.self).sort().join(' ')
  }

  private async align(): Promise<void> {
    const { self, cluster, spec, routing, own, strays } = this
    const found = strays.among(spec.pods(), self)
    const gateways = strays.gateways(found, cluster)
    for (const each of this.gateways) {
      if (!gateways.includes(each) && !this.isOwn(each)) routing.remove(hostPrefix(each), own.hop)
    }
    for (const each of gateways) routing.insert(hostPrefix(each), own.hop)
    this.gateways = gateways
    this.told = this.strayText()
    const single = found.map(hostPrefix)
    own.follow({
      addresses: [...self.map(cidr => gatewayOf(parseCidr(cidr))), ...gateways],
      destinations: [...cluster, ...single],
    })
    if (spec.masquerade) {
      const { name: hostDevice, vxlanPort } = spec
      const facts = { hostDevice, own: [...self, ...single], cluster, vxlanPort }
      await this.masquerade.follow(facts)
    }
    await this.mappings.follow([...cluster, ...single])
  }

  private isOwn(gateway: string): boolean {
    return this.self.some(cidr => gatewayOf(parseCidr(cidr)) === gateway)
  }

  /** Closes the descriptors; the device stays, unless `undo` is given and this process has made it. */
  close(options: { undo?: boolean } = {}): void {
    this.own.close(options)
  }
}
