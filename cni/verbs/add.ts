/**
 * ADD: a pod gets its interface, addresses and way, all or nothing (specification 1.1.0, "ADD"). Its
 * addresses are the daemon's, or an IPAM plugin's.
 */
import type { CniArgs } from '../args.ts'
import { requestedIps } from '../ipam-request.ts'
import { type AddConfig, delegateOf, parseAdd } from '../netconf.ts'
import type { Added, PodRequest } from '../pods.ts'
import type { CniRequest } from '../protocol.ts'
import { chain, parseResult, type Result, render, resultOf } from '../result.ts'
import { runtimeOf } from '../runtime-config.ts'
import { attachmentId } from '../state.ts'
import type { Node } from './index.ts'
import { poolsFor } from './pools.ts'

export async function add(
  node: Node,
  args: CniArgs,
  document: unknown,
  request: CniRequest,
): Promise<object> {
  const config = parseAdd(document)
  const { cniVersion, name, attach, mtu, dns, prevResult } = config
  const earlier = prevResult == null ? undefined : parseResult(cniVersion, prevResult)
  const { containerId, ifname, netns, pod } = args
  const key = { network: name, containerId, ifname }
  const runtime = runtimeOf(document, request.env.CNI_ARGS, attach)
  const wanted = {
    ...key,
    netns,
    kind: attach,
    pod,
    ...(mtu === undefined ? {} : { mtu }),
    ...(runtime === undefined ? {} : { runtime }),
  }
  const added = await node.turns.run(attachmentId(key), async late => {
    const from = addresses(node, config, document, request)
    return node.pods.add({ ...wanted, from }, late)
  })
  const own = resultOf(added.attachment, node.podCidrs(), dns ?? added.dns)
  return render(cniVersion, chain(earlier, withGateways(own, added)))
}

/** Where the addresses come from. Throws CniError (code 7). */
function addresses(
  node: Node,
  config: AddConfig,
  document: unknown,
  request: CniRequest,
): PodRequest['from'] {
  const type = delegateOf(config)
  if (type !== undefined) return { call: { ...request, type }, cniVersion: config.cniVersion }
  const pools = poolsFor(node, config.name, config.ipam)
  return { pools, asked: requestedIps(document, request.env.CNI_ARGS) }
}

function withGateways(result: Result, { gateways }: Added): Result {
  const ips = result.ips.map(ip => {
    const gateway = gateways[ip.address.includes(':') ? 6 : 4]
    return gateway === undefined ? ip : { ...ip, gateway }
  })
  return { ...result, ips }
}
