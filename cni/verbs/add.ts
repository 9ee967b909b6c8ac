/** ADD: a pod gets its interface, addresses and way, all or nothing (specification 1.1.0, "ADD"). */
import type { CniArgs } from '../args.ts'
import { parseAdd } from '../netconf.ts'
import { chain, parseResult, render, resultOf } from '../result.ts'
import { attachmentId } from '../state.ts'
import type { Node } from './index.ts'

export async function add(node: Node, args: CniArgs, document: unknown): Promise<object> {
  const { cniVersion, name, attach, mtu, dns, prevResult } = parseAdd(document)
  const earlier = prevResult == null ? undefined : parseResult(cniVersion, prevResult)
  const { containerId, ifname, netns, pod } = args
  const key = { network: name, containerId, ifname }
  const request = { ...key, netns, kind: attach, pod, ...(mtu === undefined ? {} : { mtu }) }
  const attachment = await node.turns.run(attachmentId(key), late => node.pods.add(request, late))
  return render(cniVersion, chain(earlier, resultOf(attachment, node.podCidrs(), dns)))
}
