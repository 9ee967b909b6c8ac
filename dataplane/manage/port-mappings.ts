/**
 * The node's port mappings as the main thread keeps them: one change at a time, the whole table each
 * time (devices/port-mappings.ts), and then the UDP flows that still go the way of before.
 */
import type { DataplaneOptions, PodPorts } from '../control.ts'
import { type FlowPort, forgetFlows } from '../netlink/conntrack.ts'
import { applyPortMappings, verifyPortMappings } from '../nft/port-mappings.ts'
import type { Conditions } from '../weather/conditions.ts'
import { PROTO_UDP } from '../wire/numbers.ts'

/** Its trouble. */
const KEY = 'port mappings'

export class PortMappings {
  private readonly hostDevice: string
  private readonly vxlanPort: number
  private readonly log: NonNullable<DataplaneOptions['log']>
  private cluster: readonly string[] = []
  /** In force; undefined until the first change: an earlier process may have left a table. */
  private pods: readonly PodPorts[] | undefined
  private turn: Promise<void> = Promise.resolve()

  constructor(hostDevice: string, vxlanPort: number, log: NonNullable<DataplaneOptions['log']>) {
    this.hostDevice = hostDevice
    this.vxlanPort = vxlanPort
    this.log = log
  }

  /** These instead of those before. Rejects, and nothing has changed, when nft is missing or refuses. */
  set(pods: readonly PodPorts[]): Promise<void> {
    return this.inTurn(() => this.change(pods))
  }

  /** What of these is not in force any more. Rejects when nft is missing. */
  verify(pods: readonly PodPorts[]): Promise<readonly string[]> {
    return this.inTurn(async () => (pods.some(has) ? verifyPortMappings(pods) : []))
  }

  /** Whether any port leads to a pod. */
  get active(): boolean {
    return this.pods?.some(has) ?? false
  }

  /** Puts what is in force by this object in force again when the kernel has lost some of it; a trouble when that fails. */
  look(conditions: Conditions): Promise<void> {
    return this.inTurn(async () => {
      const { pods = [], hostDevice, cluster } = this
      try {
        const lost = this.active ? await verifyPortMappings(pods) : []
        if (lost.length > 0) {
          await applyPortMappings(hostDevice, cluster, pods)
          const sentence = `${lost[0]}; the port mappings are in force again`
          conditions.mended('nft', sentence)
        }
        conditions.clear(KEY)
      } catch (error) {
        const cause = error instanceof Error ? error.message : String(error)
        conditions.raise(KEY, `host ports don't lead to pods: ${cause}`, { blocking: true })
      }
    })
  }

  /** The cluster's prefixes are these now. Rejects, and nothing has changed, when nft refuses. */
  follow(cluster: readonly string[]): Promise<void> {
    return this.inTurn(async () => {
      const { pods } = this
      if (pods?.some(has)) await applyPortMappings(this.hostDevice, cluster, pods)
      this.cluster = cluster
    })
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.turn.then(work)
    this.turn = mine.then(
      () => {},
      () => {},
    )
    return mine
  }

  private async change(pods: readonly PodPorts[]): Promise<void> {
    const { hostDevice, cluster, vxlanPort, log } = this
    const before = this.pods
    if (!pods.some(has) && !before?.some(has)) {
      // Most nodes never have any, nor need nft. Where it is missing nobody has made a table.
      if (before === undefined) {
        await applyPortMappings(hostDevice, cluster, []).catch((error: Error) =>
          log('debug', 'no table of port mappings to remove', { cause: error.message }),
        )
      }
      this.pods = pods
      return
    }
    if (udpPorts(pods).has(vxlanPort)) {
      throw new RangeError(`host port ${vxlanPort}/udp is VXLAN's on this node`)
    }
    await applyPortMappings(hostDevice, cluster, pods)
    this.pods = pods
    try {
      const forgotten = forgetFlows('', changedPorts(before ?? pods, pods))
      if (forgotten > 0) log('debug', 'UDP flows are forgotten', { flows: forgotten })
    } catch (error) {
      log('warn', 'UDP flows of before go on', { cause: (error as Error).message })
    }
  }
}

function has({ mappings }: PodPorts): boolean {
  return mappings.length > 0
}

/** Node ports of UDP that lead elsewhere than before, or nowhere any more. */
function changedPorts(before: readonly PodPorts[], after: readonly PodPorts[]): FlowPort[] {
  const from = udpPorts(before)
  const to = udpPorts(after)
  const ports = new Set([...from.keys(), ...to.keys()])
  return [...ports]
    .filter(port => from.get(port) !== to.get(port))
    .map(port => ({ proto: PROTO_UDP, port }))
}

/** Ports of UDP and all that is behind them. */
function udpPorts(pods: readonly PodPorts[]): Map<number, string> {
  const found = new Map<number, string>()
  for (const { ip4, ip6, mappings } of pods) {
    for (const { protocol, hostPort, containerPort, hostIP } of mappings) {
      if (protocol !== 'udp') continue
      const way = `${hostIP} ${ip4} ${ip6} ${containerPort};`
      found.set(hostPort, `${found.get(hostPort) ?? ''}${way}`)
    }
  }
  return found
}
