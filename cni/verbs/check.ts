/**
 * CHECK: whether the attachment still is what ADD answered (specification 1.1.0, "CHECK"): our
 * row, the namespace, the interface with its MTU, MAC, addresses and routes, the engine's way, and
 * `prevResult`. What others added beside it is theirs. The
 * IPAM plugin that gave the addresses and the plugins of further interfaces are asked last.
 */

import type { PodAttachment } from '../../dataplane/control.ts'
import { callDelegate } from '../invoke/exec.ts'
import { chooseCall } from '../invoke/kept.ts'
import { parseAddress } from '../netip/cidr.ts'
import { podNamespace } from '../pods/namespace.ts'
import type { Node } from '../pods/node.ts'
import type { OwnCall } from '../secondary/interfaces.ts'
import { checkSecondaries } from '../secondary/verbs.ts'
import { type CniArgs, parseArgs } from '../spec/args.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { delegateIn, parseCheck, parseJson } from '../spec/netconf.ts'
import type { CniRequest } from '../spec/request.ts'
import { parseResult, type Result } from '../spec/result.ts'
import { type Attachment, attachmentId } from '../state/state.ts'

/** `held`: for a further interface, the turn of the attachment that it belongs to. */
export async function check(
  node: Node,
  args: CniArgs,
  document: unknown,
  { env, config }: CniRequest,
  held?: AbortSignal,
): Promise<undefined> {
  const { cniVersion, name, prevResult } = parseCheck(document)
  const result = parseResult(cniVersion, prevResult)
  const { containerId, ifname, netns } = args
  const key = { network: name, containerId, ifname }
  const id = attachmentId(key)
  const work = async (late: AbortSignal): Promise<void> => {
    const { dev, ino } = podNamespace(netns)
    const row = node.state.get(key)
    // Not code 3: that would tell the runtime that no DEL is needed.
    if (row?.phase !== 'attached') throw new CniError(CODE.differs, `${id}: it is not attached`)
    const problems: string[] = []
    if (row.netnsDev !== String(dev) || row.netnsIno !== String(ino)) {
      problems.push(`${netns}: not the namespace that was attached (${row.netns})`)
    }
    const trouble = node.pods.troubles.get(id)
    if (trouble !== undefined) problems.push(`it is not restored: ${trouble}`)
    problems.push(...node.plane.verify(id), ...(await node.pods.lostPorts(key)))
    const attachment = node.plane.pods().find(pod => pod.id === id)
    if (attachment !== undefined) {
      problems.push(...reservation(row, attachment), ...differences(result, attachment))
    }
    if (problems.length > 0) throw new CniError(CODE.differs, `${id}: ${problems.join('; ')}`)
    const kept = node.state.delegation(key)
    if (kept !== undefined) {
      const type = delegateIn(document)
      const asked = type === undefined ? undefined : { type, env, config }
      const call = chooseCall(key, 'CHECK', kept, asked)
      if (call !== undefined) await callDelegate(call, node.log, late)
    }
    const own: OwnCall = (inner, held) =>
      check(node, parseArgs(inner.env), parseJson(inner.config), inner, held)
    await checkSecondaries(node, key, own, late)
  }
  await node.turns.run(id, work, held)
  return undefined
}

/** What the row, which says who has which address, says otherwise than the engine. */
function reservation(row: Attachment, attachment: PodAttachment): string[] {
  const problems: string[] = []
  for (const family of ['ip4', 'ip6'] as const) {
    const [reserved = 'none', served = 'none'] = [row[family], attachment[family]]
    if (reserved !== served) problems.push(`${served} is served, ${reserved} is reserved`)
  }
  if (row.overlay !== attachment.network) {
    const of = (name: string | undefined) => name ?? "the cluster's own"
    problems.push(`served in network ${of(attachment.network)}, not in ${of(row.overlay)}`)
  }
  return problems
}

/** What `prevResult` says otherwise, or not at all. */
function differences(result: Result, attachment: PodAttachment): string[] {
  const { ifname, mac, ip4, ip6 } = attachment
  const problems: string[] = []
  const ours = result.interfaces.find(each => each.name === ifname && each.sandbox)
  if (ours === undefined) problems.push(`prevResult has no interface ${ifname} of a pod`)
  else if (mac !== undefined && ours.mac?.toLowerCase() !== mac) {
    problems.push(`prevResult has ${ifname} with MAC ${ours.mac ?? 'none'}, it has ${mac}`)
  }
  const addresses = result.ips.map(ip => canonical(ip.address.replace(/\/.*$/s, '')))
  for (const ip of [ip4, ip6]) {
    if (ip !== undefined && !addresses.includes(ip)) problems.push(`prevResult lacks ${ip}`)
  }
  return problems
}

function canonical(address: string): string | undefined {
  const parsed = parseAddress(address)
  return parsed.ok ? parsed.value.text : undefined
}
