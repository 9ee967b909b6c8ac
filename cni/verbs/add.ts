/**
 * ADD: a pod gets its interface, addresses and way, all or nothing (specification 1.1.0, "ADD"). Its
 * addresses are the daemon's, or an IPAM plugin's. The result has this interface only: a runtime takes
 * a pod's addresses from it, and those of further interfaces are none that a cluster knows.
 */

import { clean } from '../base/document.ts'
import { faultPoint } from '../base/fault-points.ts'
import { requestedLabels } from '../enforce/requested-labels.ts'
import { overlayCidrs, poolsFor } from '../ipam/pools.ts'
import { requestedIps } from '../ipam/request.ts'
import type { Labels } from '../model/labels.ts'
import type { Added, PodRequest } from '../pods/attach.ts'
import type { Node } from '../pods/node.ts'
import { networksFor, routesIn } from '../secondary/config.ts'
import type { OwnCall, WantedSecondaries } from '../secondary/interfaces.ts'
import { type CniArgs, parseArgs } from '../spec/args.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { type AddConfig, delegateOf, parseAdd, parseJson } from '../spec/netconf.ts'
import type { CniRequest } from '../spec/request.ts'
import { chain, parseResult, type Result, render, resultOf } from '../spec/result.ts'
import { type Runtime, runtimeOf } from '../spec/runtime-config.ts'
import { attachmentId } from '../state/state.ts'

/** `held`: for a further interface, the turn of the attachment that it belongs to. */
export async function add(
  node: Node,
  args: CniArgs,
  document: unknown,
  request: CniRequest,
  held?: AbortSignal,
): Promise<object> {
  const config = parseAdd(document)
  const { cniVersion, name, attach, mtu, dns, prevResult, network: overlay } = config
  const earlier = prevResult == null ? undefined : parseResult(cniVersion, prevResult)
  const { containerId, ifname, netns, pod } = args
  const key = { network: name, containerId, ifname }
  const asked = runtimeOf(document, request.env.CNI_ARGS, attach)
  const routes = held === undefined ? [] : routesIn(document)
  if (overlay !== undefined) checkOverlay(overlay, asked, routes)
  const labels = requestedLabels(document)
  const runtime = withMore(asked, held === undefined ? undefined : routes, labels)
  const wanted = {
    ...key,
    netns,
    kind: attach,
    pod,
    ...(mtu === undefined ? {} : { mtu }),
    ...(runtime === undefined ? {} : { runtime }),
    ...(overlay === undefined ? {} : { overlay }),
  }
  const further = held === undefined ? furtherOf(node, config, document, args, request) : {}
  const work = async (late: AbortSignal): Promise<object> => {
    const from = addresses(node, config, document, request, args.namespace)
    const added = await node.pods.add({ ...wanted, from, ...further }, late)
    try {
      const own = resultOf(added.attachment, node.podCidrs(overlay), dns ?? added.dns)
      const result = render(cniVersion, chain(earlier, withGateways(own, added)))
      faultPoint('add.answer')
      return result
    } catch (error) {
      // All or nothing: what can't be answered must not be there.
      await node.pods.remove(key)
      throw error
    }
  }
  return node.turns.run(attachmentId(key), work, held)
}

function withMore(
  asked: Runtime | undefined,
  further: string[] | undefined,
  labels: Labels | undefined,
): Runtime | undefined {
  if (further === undefined && labels === undefined) return asked
  return {
    ...asked,
    ...(further === undefined ? {} : { further }),
    ...(labels === undefined ? {} : { labels }),
  }
}

/** The further interfaces that the pod gets, if any. Throws CniError (code 7). */
function furtherOf(
  node: Node,
  { cniVersion }: AddConfig,
  document: unknown,
  { ifname, namespace }: CniArgs,
  request: CniRequest,
): { secondaries?: WantedSecondaries } {
  const networks = networksFor(document, cniVersion, { ifname, namespace })
  if (networks.length === 0) return {}
  const own: OwnCall = (inner, held) =>
    add(node, parseArgs(inner.env), parseJson(inner.config), inner, held)
  return { secondaries: { networks, request, own } }
}

/** What a network beside the cluster's own can't have. Throws CniError (code 7). */
function checkOverlay(
  overlay: string,
  asked: Runtime | undefined,
  routes: readonly string[],
): void {
  if (asked?.portMappings !== undefined) {
    throw new CniError(
      CODE.config,
      `runtimeConfig.portMappings: the node is not in network ${clean(overlay)}, its ports can't lead there`,
    )
  }
  if (routes.length === 0) return
  throw new CniError(
    CODE.config,
    `routes: an interface in network ${clean(overlay)} leads there and nowhere else`,
  )
}

/** Where the addresses come from. Throws CniError (code 7). */
function addresses(
  node: Node,
  config: AddConfig,
  document: unknown,
  request: CniRequest,
  namespace: string,
): PodRequest['from'] {
  const type = delegateOf(config)
  overlayCidrs(node, config.network)
  if (type !== undefined) return { call: { ...request, type }, cniVersion: config.cniVersion }
  const pools = poolsFor(node, config, namespace)
  return { pools, asked: requestedIps(document, request.env.CNI_ARGS) }
}

function withGateways(result: Result, { gateways }: Added): Result {
  const ips = result.ips.map(ip => {
    const gateway = gateways[ip.address.includes(':') ? 6 : 4]
    return gateway === undefined ? ip : { ...ip, gateway }
  })
  return { ...result, ips }
}
