/** The kernel's side of policy: the rules of rules.ts in the node's namespace, and what they have denied. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Namespace } from '../harness/namespaces.ts'
import { Skipped } from '../harness/suite.ts'
import { nftablesOf, rulesOf } from './rules.ts'

/**
 * Puts `rules` rules in force. A pod's packets to other nodes are routed, and so pass the hook `forward`: the
 * bridge need not call it, which spares the kernel work.
 */
export function enforce(node: Namespace, rules: number): void {
  node.sysctl('net.bridge.bridge-nf-call-iptables', '0')
  const folder = mkdtempSync(join(tmpdir(), 'hwb-'))
  try {
    const file = join(folder, 'rules.nft')
    writeFileSync(file, nftablesOf(rulesOf(rules)))
    node.run('nft', '-f', file)
  } catch (error) {
    if (!String(error).includes('ENOENT')) throw error
    throw new Skipped('no nft on this machine (apt install nftables)')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Packets that the pod's chain has denied. */
export function denied(node: Namespace): number {
  const found = /counter packets (\d+)/.exec(node.run('nft', 'list', 'chain', 'ip', 'hwb', 'pod'))
  if (found === null) throw new Error('nft list chain ip hwb pod: no counter in it')
  return Number(found[1])
}
