/**
 * What a daemon that no longer runs has left in the kernel and in its state file, recognised as
 * cni/INTERNALS.md ("How state says that it is ours") has it and not by looks: a device that only has a
 * name like ours is a stranger's.
 */
import { spawn } from 'node:child_process'
import { DatabaseSync } from 'node:sqlite'
import {
  deleteLink,
  forwardRules,
  getLink,
  isOurVxlan,
  Netlink,
  vethNames,
} from '../../dataplane/kernel.ts'
import { TAP_DEVICE, VXLAN_DEVICE } from '../../dataplane/limits.ts'
import { hasInterface } from '../../dataplane/netns.ts'
import { look } from '../pods/namespace.ts'
import { APPLICATION_ID, type Attachment, attachmentId, bootId } from '../state/state.ts'

/** Our nftables tables (dataplane/nft/masquerade.ts and port-mappings.ts), family and name. */
const TABLES: readonly string[] = ['ip hawser', 'ip6 hawser', 'inet hawser_ports']
/** Bytes of nft's list of tables that are read. */
const MAX_TABLES_BYTES = 4 * 1024 * 1024

/** Something that can be removed. `what` names it for people. */
export interface Leftover {
  what: string
  remove: () => void | Promise<void>
}

export type LeftAttachment = Pick<Attachment, 'netns' | 'ifname' | 'kind'> & {
  id: string
  /** Whether its namespace is still the one that it was, and has the interface; `unsure` is not `no`. */
  there: 'yes' | 'no' | 'unsure'
}

export interface LeftState {
  /** Attachments of this boot. */
  attachments: LeftAttachment[]
  /** Attachments whose addresses an IPAM plugin has given, and does not have back. */
  delegations: number
  /** Further interfaces of pods that their plugins have not undone. */
  secondaries: number
}

/** What the state file at `path`, which is there, says; changes nothing. Throws when it is not one of ours. */
export function readLeftState(path: string): LeftState {
  let database: DatabaseSync | undefined
  try {
    // Not `readOnly`: that would leave -wal and -shm files behind.
    database = new DatabaseSync(path)
    database.exec('PRAGMA query_only = ON')
    const application = Object.values(database.prepare('PRAGMA application_id').get() ?? {})[0]
    if (application !== APPLICATION_ID) throw new Error('not a state file of hawser')
    const all = (sql: string): Record<string, unknown>[] => database?.prepare(sql).all() ?? []
    const [boot] = all("SELECT value FROM facts WHERE name = 'boot'")
    const rows = boot?.['value'] === bootId() ? all('SELECT * FROM attachments') : []
    // A file of an earlier schema lacks one or both.
    const rowsOf = (table: 'delegations' | 'secondaries'): number => {
      if (all(`SELECT 1 FROM sqlite_schema WHERE name = '${table}'`).length === 0) return 0
      return Number(all(`SELECT count(*) AS n FROM ${table}`)[0]?.['n'])
    }
    return {
      attachments: rows.map(left),
      delegations: rowsOf('delegations'),
      secondaries: rowsOf('secondaries'),
    }
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error })
  } finally {
    database?.close()
  }
}

function left(row: Record<string, unknown>): LeftAttachment {
  const text = (name: string): string => String(row[name])
  const [netns, ifname] = [text('netns'), text('ifname')]
  const key = { network: text('network'), containerId: text('container'), ifname }
  const kind = text('kind') as LeftAttachment['kind']
  const namespace = { netns, netnsDev: text('netnsDev'), netnsIno: text('netnsIno') }
  return { id: attachmentId(key), netns, ifname, kind, there: isThere(namespace, ifname) }
}

function isThere(namespace: Parameters<typeof look>[0], ifname: string): LeftAttachment['there'] {
  const seen = look(namespace)
  if (seen !== 'there') return seen === 'gone' ? 'no' : 'unsure'
  try {
    return hasInterface(namespace.netns, ifname) ? 'yes' : 'no'
  } catch {
    return 'unsure'
  }
}

/**
 * Pods' interfaces: a veth pair by the name and MAC that follow from the attachment's id, a TUN by its
 * namespace and name. To be called only when no daemon runs.
 */
export function podLinks(attachments: readonly LeftAttachment[]): Leftover[] {
  return attachments.flatMap(({ id, kind, netns, ifname, there }) => {
    if (kind === 'tun') {
      if (there !== 'yes' || !isDevice(netns, ifname, 'tun')) return []
      return [
        { what: `TUN ${ifname} in ${netns} (${id})`, remove: () => removeLink(netns, ifname) },
      ]
    }
    const { hostDevice, hostMac } = vethNames(id)
    if (!isDevice('', hostDevice, 'veth', hostMac)) return []
    return [{ what: `veth ${hostDevice} (${id})`, remove: () => removeLink('', hostDevice) }]
  })
}

/** The node's own port; `taken` tells why a device of that name is not ours. */
export function nodePort(name: string): { port?: Leftover; taken?: string } {
  const link = inNamespace('', nl => getLink(nl, name))
  if (link === undefined) return {}
  if (link.kind !== 'tun') return { taken: `it is a device of kind ${link.kind ?? 'unknown'}` }
  // A TUN has a carrier while a process has it open, and no daemon of ours runs.
  if (link.running) return { taken: 'another program has it open' }
  return { port: { what: `TUN ${name}`, remove: () => removeLink('', name) } }
}

/** The node's TAP and vxlan device. To be called only when no daemon runs. */
export function trunkDevices(): Leftover[] {
  const tap = inNamespace('', nl => getLink(nl, TAP_DEVICE))
  const vxlan = inNamespace('', nl => getLink(nl, VXLAN_DEVICE))
  return [
    // A TAP has a carrier while a process has it open.
    ...(tap?.kind === 'tun' && !tap.running
      ? [{ what: `TAP ${TAP_DEVICE}`, remove: () => removeLink('', TAP_DEVICE) }]
      : []),
    ...(vxlan !== undefined && isOurVxlan(vxlan)
      ? [{ what: `vxlan ${VXLAN_DEVICE}`, remove: () => removeLink('', VXLAN_DEVICE) }]
      : []),
  ]
}

/** Our nftables tables. Throws when nft can't be asked. */
export async function nftTables(): Promise<Leftover[]> {
  const { nftables } = JSON.parse(await nft(['-j', 'list', 'tables'])) as {
    nftables: { table?: { family: string; name: string } }[]
  }
  const ours = nftables.flatMap(({ table }) => (table ? [`${table.family} ${table.name}`] : []))
  return ours
    .filter(name => TABLES.includes(name))
    .map(name => ({
      what: `nft table ${name}`,
      remove: async () => {
        await nft(['delete', 'table', ...name.split(' ')])
      },
    }))
}

/** Our accepts in the node's FORWARD chains. Throws when its firewall can't be asked. */
export async function firewallRules(hostDevice: string): Promise<Leftover[]> {
  const found = await forwardRules(hostDevice)
  return found.map(({ firewall, remove }) => ({ what: `rules of ${firewall} FORWARD`, remove }))
}

function nft(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('nft', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const said = { stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].on('data', chunk => {
        said[stream] = `${said[stream]}${chunk}`.slice(0, MAX_TABLES_BYTES)
      })
    }
    child.on('error', error => reject(new Error(`nft: ${error.message}`, { cause: error })))
    child.on('close', code => {
      if (code === 0) resolve(said.stdout)
      else reject(new Error(`nft ${args.join(' ')} ended with ${code}: ${said.stderr.trim()}`))
    })
  })
}

function isDevice(netns: string, name: string, kind: string, mac?: string): boolean {
  const link = inNamespace(netns, nl => getLink(nl, name))
  return link?.kind === kind && (mac === undefined || link.mac === mac)
}

function removeLink(netns: string, name: string): void {
  inNamespace(netns, nl => {
    const link = getLink(nl, name)
    if (link !== undefined) deleteLink(nl, link.index)
  })
}

function inNamespace<T>(netns: string, work: (nl: Netlink) => T): T {
  const nl = new Netlink(netns)
  try {
    return work(nl)
  } finally {
    nl.close()
  }
}
