/**
 * Pods of this node whose addresses are in none of its pod CIDRs: these have changed under the pods, or
 * an IPAM plugin has its own mind. They keep what they have until they go: the node's way to them,
 * masquerading and host ports. The gateway address of a former CIDR stays, too, while a pod of it does
 * and no other node has the CIDR: what the node has begun in its name goes on.
 */
import { gatewayOf, inCidr, ipWords, parseCidr } from '../addresses.ts'

export class Strays {
  private former: string[] = []

  /** The node's CIDRs were `before` and are `now`. */
  follow(before: readonly string[], now: readonly string[]): void {
    const former = new Set([...this.former, ...before])
    this.former = [...former].filter(cidr => !now.includes(cidr))
  }

  /** Of a node's pods' addresses those outside of `own`. */
  among(addresses: readonly string[], own: readonly string[]): string[] {
    const cidrs = own.map(parseCidr)
    return addresses.filter(address => !cidrs.some(cidr => inCidr(cidr, ipWords(address))))
  }

  /** Gateway addresses of former CIDRs that stay for `strays`; former CIDRs without one are forgotten. */
  gateways(strays: readonly string[], cluster: readonly string[]): string[] {
    const words = strays.map(ipWords)
    const cidrs = cluster.map(parseCidr)
    this.former = this.former.filter(text => {
      const cidr = parseCidr(text)
      return words.some(address => inCidr(cidr, address))
    })
    return this.former
      .map(text => gatewayOf(parseCidr(text)))
      .filter(gateway => !cidrs.some(cidr => inCidr(cidr, ipWords(gateway))))
  }
}
