/**
 * The kernel's switches that the node's own port lives by. Nobody tells of most of them when they
 * change, so they are looked at in every pass and when pods are attached, too.
 *
 * IPv6 forwarding makes the node a router, and a router takes no router advertisements: a node that has
 * its default route from one would lose it. Devices that accept them (accept_ra 1) are told to do so
 * in spite of it (2) before; and again when a device of that name comes back, since a new one has 1. So
 * other devices stay as they are: accept_ra 2 is for none that a container could speak on.
 */

import { listLinks } from '../netlink/link.ts'
import { Netlink } from '../netlink/socket.ts'
import { readSwitch, setSwitch } from '../switches.ts'

/** What the switches depend on. */
export interface SwitchFacts {
  /** Name of the node's own port. */
  device: string
  /** Whether the node has IPv6 addresses for pods. */
  six: boolean
  /** Whether ports of 127.0.0.1 lead to pods. */
  localnet: boolean
}

export class Switches {
  /** Devices that are to accept router advertisements although the node forwards. */
  private readonly advertised = new Set<string>()

  /** Puts right what is not. Returns a clause for each that was not (`ipv4/ip_forward was 0`). Throws when one can't be written. */
  mend({ device, six, localnet }: SwitchFacts): string[] {
    const changed: string[] = []
    const set = (key: string, value: string): void => {
      const before = setSwitch('', key, value)
      if (before !== undefined) changed.push(`${key} was ${before}`)
    }
    // Those for all devices first: writing them resets the ones of each.
    set('ipv4/ip_forward', '1')
    if (six) {
      this.keepAdvertisements(device)
      set('ipv6/conf/all/forwarding', '1')
    }
    set(`ipv4/conf/${device}/forwarding`, '1')
    // What comes from the overlay was checked by the engine; the kernel's strict check doesn't know its ways.
    set(`ipv4/conf/${device}/rp_filter`, '2')
    if (localnet) set(`ipv4/conf/${device}/route_localnet`, '1')
    if (six) {
      set(`ipv6/conf/${device}/disable_ipv6`, '0')
      set(`ipv6/conf/${device}/forwarding`, '1')
    }
    set(`ipv6/conf/${device}/accept_ra`, '0')
    return changed
  }

  private keepAdvertisements(own: string): void {
    const forwards = readSwitch('', 'ipv6/conf/all/forwarding')
    if (forwards === undefined) return
    const nl = new Netlink('')
    try {
      for (const { name } of listLinks(nl)) {
        if (name === own || name === 'lo') continue
        const accepts = readSwitch('', `ipv6/conf/${name}/accept_ra`)
        if (accepts === '2') this.advertised.add(name)
        if (accepts !== '1') continue
        const routes = readSwitch('', `ipv6/conf/${name}/forwarding`) !== '0'
        if (routes && !this.advertised.has(name)) continue
        this.advertised.add(name)
        setSwitch('', `ipv6/conf/${name}/accept_ra`, '2')
      }
    } finally {
      nl.close()
    }
  }
}
