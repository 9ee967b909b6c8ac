/**
 * The durable state of a node: which attachment has which addresses. SQLite in WAL mode with
 * `synchronous=FULL`: what a method has returned from survives a power loss.
 *
 * Theory of operation. An attachment is a row, keyed as the CNI specification keys it (network,
 * container id, interface name). It is written as `reserved`, with its addresses, before anything
 * is made, becomes `attached` once packets flow, and is removed when nothing of it is left; in the
 * same transaction its addresses move to `cooling`. A row that is still `reserved` when a daemon
 * starts belongs to an ADD that was never answered. Interfaces and namespaces don't survive a
 * boot, so the rows of an earlier one (another boot id) are forgotten when the file is opened.
 *
 * Addresses of an IPAM plugin have a second row, in `delegations`: what the plugin was called with.
 * It is written before the plugin is asked for addresses and removed when the plugin has them
 * back, so it stays, over boots too, where an attachment's row is gone already or never was.
 *
 * The file is known as ours by its application id; its schema version is `user_version`. A file of
 * an earlier one is brought to this one when it is opened (MIGRATIONS).
 */
import { chmodSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { AttachKind } from '../dataplane/control.ts'
import { parseAddress } from './cidr.ts'
import { makeFolder } from './folder.ts'
import type { Runtime } from './runtime-config.ts'

/** "hwsr" in SQLite's header. */
export const APPLICATION_ID = 0x68_77_73_72
export const SCHEMA_VERSION = 3

const DELEGATIONS = `
  CREATE TABLE delegations (
    network TEXT NOT NULL,
    container TEXT NOT NULL,
    ifname TEXT NOT NULL,
    type TEXT NOT NULL,
    netns TEXT NOT NULL,
    args TEXT NOT NULL,
    path TEXT NOT NULL,
    config TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (network, container, ifname)
  ) STRICT;
`

const SECONDARIES = `
  CREATE TABLE secondaries (
    network TEXT NOT NULL,
    container TEXT NOT NULL,
    ifname TEXT NOT NULL,
    position INTEGER NOT NULL,
    netns TEXT NOT NULL,
    args TEXT NOT NULL,
    path TEXT NOT NULL,
    config TEXT NOT NULL,
    result TEXT,
    created INTEGER NOT NULL,
    PRIMARY KEY (network, container, ifname, position)
  ) STRICT;
`

/** What brings a file of that schema version to the next one. */
const MIGRATIONS: Readonly<Record<number, string>> = {
  1: `${DELEGATIONS} ALTER TABLE attachments ADD COLUMN runtime TEXT;`,
  2: `${SECONDARIES} ALTER TABLE attachments ADD COLUMN overlay TEXT;`,
}

const SCHEMA = `
  CREATE TABLE attachments (
    network TEXT NOT NULL,
    container TEXT NOT NULL,
    ifname TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('reserved', 'attached')),
    netns TEXT NOT NULL,
    netnsDev TEXT NOT NULL,
    netnsIno TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('tun', 'xdp')),
    mtu INTEGER,
    ip4 TEXT UNIQUE,
    ip6 TEXT UNIQUE,
    pod TEXT NOT NULL,
    created INTEGER NOT NULL,
    runtime TEXT,
    overlay TEXT,
    PRIMARY KEY (network, container, ifname)
  ) STRICT;
  CREATE TABLE cooling (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    family INTEGER NOT NULL,
    address TEXT NOT NULL UNIQUE,
    freed INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE cursors (family INTEGER PRIMARY KEY, address TEXT NOT NULL) STRICT;
  CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  ${DELEGATIONS}
  ${SECONDARIES}
`

export interface AttachmentKey {
  network: string
  containerId: string
  ifname: string
}

export interface Attachment extends AttachmentKey {
  phase: 'reserved' | 'attached'
  /** Path of the namespace, and which namespace it was: device and inode, decimal. */
  netns: string
  netnsDev: string
  netnsIno: string
  kind: AttachKind
  /** What the configuration asked for while reserved; what the interface has once attached. */
  mtu?: number
  ip4?: string
  ip6?: string
  /** Namespace and name of the pod, for people; empty when the runtime didn't say. */
  pod: string
  /** Milliseconds since 1970. */
  created: number
  /** What the runtime asked for beside addresses; JSON in the row. */
  runtime?: Runtime
  /** Name of the overlay network that it is in; absent: the cluster's own. */
  overlay?: string
}

/** What an IPAM plugin was asked for addresses with; its DEL is called with the same. */
export interface Delegation {
  /** Name of the plugin. */
  type: string
  netns: string
  /** CNI_ARGS and CNI_PATH. */
  args: string
  path: string
  /** The network configuration, as the runtime sent it. */
  config: string
  /** Milliseconds since 1970. */
  created: number
}

/** What address choice needs to know of one family. */
export interface AddressUse {
  taken: Set<bigint>
  /** Freed addresses and when (milliseconds since 1970), the oldest first. */
  cooling: Map<bigint, number>
  /** The address given out last. */
  cursor?: bigint
}

/** The attachment's id in the packet engine; no part can hold a slash. */
export function attachmentId(key: AttachmentKey): string {
  return `${key.network}/${key.containerId}/${key.ifname}`
}

/** This boot of the kernel (random(4)). */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

type Row = Record<string, string | number | null>

export class State {
  readonly path: string
  /** Attachments of an earlier boot that were forgotten when the file was opened. */
  readonly forgotten: number
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  /** Opens or makes the file at `path` (and its folder). Throws an Error that names it. */
  constructor(path: string, boot: string = bootId()) {
    this.path = path
    makeFolder(dirname(path), 0o755)
    try {
      this.#database = new DatabaseSync(path)
    } catch (error) {
      throw new Error(`${path}: ${(error as Error).message}`, { cause: error })
    }
    try {
      chmodSync(path, 0o600)
      this.#database.exec('PRAGMA journal_mode = WAL')
      this.#database.exec('PRAGMA synchronous = FULL')
      this.transaction(() => this.#migrate())
      this.forgotten = this.transaction(() => this.#enterBoot(boot))
    } catch (error) {
      this.#database.close()
      const { message } = error as Error
      throw new Error(
        `${path}: ${message} (a file that can't be used must be moved away by hand: it says which addresses are taken)`,
        { cause: error },
      )
    }
  }

  #migrate(): void {
    const pragma = (name: string): number =>
      Number(Object.values(this.#get(`PRAGMA ${name}`) ?? {})[0])
    const application = pragma('application_id')
    const version = pragma('user_version')
    const tables = Number(this.#get('SELECT count(*) AS n FROM sqlite_schema')?.['n'])
    if (application === 0 && version === 0 && tables === 0) {
      this.#database.exec(SCHEMA)
      this.#database.exec(`PRAGMA application_id = ${APPLICATION_ID}`)
      this.#database.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`)
      return
    }
    if (application !== APPLICATION_ID) throw new Error('not a state file of hawser')
    for (let from = version; from !== SCHEMA_VERSION; from++) {
      const step = MIGRATIONS[from]
      if (step === undefined) {
        throw new Error(`schema version ${version}, this hawser knows ${SCHEMA_VERSION}`)
      }
      this.#database.exec(step)
      this.#database.exec(`PRAGMA user_version = ${from + 1}`)
    }
  }

  #enterBoot(boot: string): number {
    const known = this.#get("SELECT value FROM facts WHERE name = 'boot'")?.['value']
    if (known === boot) return 0
    const gone = this.list()
    for (const each of gone) this.#remove(each, Date.now())
    this.#run("INSERT OR REPLACE INTO facts VALUES ('boot', ?)", boot)
    return gone.length
  }

  /** Runs `work` all or nothing; what it did is durable when this returns. */
  transaction<T>(work: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      const result = work()
      this.#database.exec('COMMIT')
      return result
    } catch (error) {
      // The statement that failed may have ended the transaction already.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  get(key: AttachmentKey): Attachment | undefined {
    const row = this.#get(
      'SELECT * FROM attachments WHERE network = ? AND container = ? AND ifname = ?',
      ...words(key),
    )
    return row === undefined ? undefined : fromRow(row)
  }

  /** All attachments, the oldest first. */
  list(): Attachment[] {
    return this.#all('SELECT * FROM attachments ORDER BY created, container, ifname').map(fromRow)
  }

  /**
   * Writes a new row and takes its addresses out of `cooling`. The cursors of the families in
   * `chosen` move: the next search goes on behind an address that a search has found.
   */
  insert(attachment: Attachment, chosen: readonly (4 | 6)[] = [4, 6]): void {
    const { phase, netns, netnsDev, netnsIno, kind, mtu, ip4, ip6, pod, created } = attachment
    const { runtime, overlay } = attachment
    this.#run(
      'INSERT INTO attachments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      ...words(attachment),
      ...[phase, netns, netnsDev, netnsIno, kind, mtu ?? null, ip4 ?? null, ip6 ?? null, pod],
      created,
      runtime === undefined ? null : JSON.stringify(runtime),
      overlay ?? null,
    )
    for (const [family, address] of addressesOf(attachment)) {
      this.warm(address)
      if (!chosen.includes(family)) continue
      this.#run('INSERT OR REPLACE INTO cursors VALUES (?, ?)', family, address)
    }
  }

  /** Whose address it is. */
  holder(family: 4 | 6, address: string): AttachmentKey | undefined {
    const column = family === 4 ? 'ip4' : 'ip6'
    const row = this.#get(`SELECT * FROM attachments WHERE ${column} = ?`, address)
    return row === undefined ? undefined : keyOf(row)
  }

  /** The interface of a reserved attachment is there and has this MTU. */
  markAttached(key: AttachmentKey, mtu: number): void {
    const changed = this.#run(
      `UPDATE attachments SET phase = 'attached', mtu = ?
       WHERE network = ? AND container = ? AND ifname = ?`,
      mtu,
      ...words(key),
    )
    if (changed !== 1) throw new Error(`${attachmentId(key)}: no such attachment in ${this.path}`)
  }

  /** Removes the row if it is there and lets its addresses cool down from `now` on. */
  release(key: AttachmentKey, now: number = Date.now()): void {
    this.transaction(() => this.#remove(key, now))
  }

  #remove(key: AttachmentKey, now: number): void {
    const there = this.get(key)
    if (there === undefined) return
    this.#run(
      'DELETE FROM attachments WHERE network = ? AND container = ? AND ifname = ?',
      ...words(key),
    )
    for (const [family, address] of addressesOf(there)) {
      this.#run(
        'INSERT OR REPLACE INTO cooling (family, address, freed) VALUES (?, ?, ?)',
        family,
        address,
        now,
      )
    }
  }

  /** Writes down, or anew, what an IPAM plugin is asked with. */
  keepDelegation(key: AttachmentKey, delegation: Delegation): void {
    const { type, netns, args, path, config, created } = delegation
    this.#run(
      'INSERT OR REPLACE INTO delegations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
      ...words(key),
      ...[type, netns, args, path, config, created],
    )
  }

  delegation(key: AttachmentKey): Delegation | undefined {
    const row = this.#get(
      'SELECT * FROM delegations WHERE network = ? AND container = ? AND ifname = ?',
      ...words(key),
    )
    if (row === undefined) return undefined
    const text = (name: string): string => String(row[name])
    return {
      type: text('type'),
      netns: text('netns'),
      args: text('args'),
      path: text('path'),
      config: text('config'),
      created: Number(row['created']),
    }
  }

  /** The plugin has its addresses back. */
  forgetDelegation(key: AttachmentKey): void {
    this.#run(
      'DELETE FROM delegations WHERE network = ? AND container = ? AND ifname = ?',
      ...words(key),
    )
  }

  /** Whose addresses come from which IPAM plugin. */
  delegations(): (AttachmentKey & Pick<Delegation, 'type' | 'created'>)[] {
    const rows = this.#all('SELECT network, container, ifname, type, created FROM delegations')
    return rows.map(row => ({
      ...keyOf(row),
      type: String(row['type']),
      created: Number(row['created']),
    }))
  }

  /** Forgets that an address rests. */
  warm(address: string): void {
    this.#run('DELETE FROM cooling WHERE address = ?', address)
  }

  /** Forgets addresses that were freed at `before` or earlier: they have cooled down. */
  cooled(before: number): void {
    this.#run('DELETE FROM cooling WHERE freed <= ?', before)
  }

  addressUse(family: 4 | 6): AddressUse {
    const column = family === 4 ? 'ip4' : 'ip6'
    const taken = this.#all(`SELECT ${column} AS a FROM attachments WHERE ${column} IS NOT NULL`)
    const cooling = this.#all(
      'SELECT address, freed FROM cooling WHERE family = ? ORDER BY number',
      family,
    )
    const cursor = this.#get('SELECT address FROM cursors WHERE family = ?', family)?.['address']
    return {
      taken: new Set(taken.map(row => value(row['a']))),
      cooling: new Map(cooling.map(row => [value(row['address']), Number(row['freed'])])),
      ...(cursor === undefined ? {} : { cursor: value(cursor) }),
    }
  }

  close(): void {
    this.#statements.clear()
    this.#database.close()
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  #get(sql: string, ...values: (string | number | null)[]): Row | undefined {
    return this.#prepare(sql).get(...values) as Row | undefined
  }

  #all(sql: string, ...values: (string | number | null)[]): Row[] {
    return this.#prepare(sql).all(...values) as Row[]
  }

  #run(sql: string, ...values: (string | number | null)[]): number {
    return Number(this.#prepare(sql).run(...values).changes)
  }
}

function words(key: AttachmentKey): [string, string, string] {
  return [key.network, key.containerId, key.ifname]
}

function keyOf(row: Row): AttachmentKey {
  return {
    network: String(row['network']),
    containerId: String(row['container']),
    ifname: String(row['ifname']),
  }
}

function addressesOf({ ip4, ip6 }: Attachment): [family: 4 | 6, address: string][] {
  const found: [4 | 6, string][] = []
  if (ip4 !== undefined) found.push([4, ip4])
  if (ip6 !== undefined) found.push([6, ip6])
  return found
}

function value(address: unknown): bigint {
  const parsed = parseAddress(String(address))
  if (!parsed.ok) throw new Error(`address ${JSON.stringify(address)}: ${parsed.cause}`)
  return parsed.value.value
}

function fromRow(row: Row): Attachment {
  const text = (name: string): string => String(row[name])
  return {
    network: text('network'),
    containerId: text('container'),
    ifname: text('ifname'),
    phase: text('phase') as Attachment['phase'],
    netns: text('netns'),
    netnsDev: text('netnsDev'),
    netnsIno: text('netnsIno'),
    kind: text('kind') as AttachKind,
    ...(row['mtu'] == null ? {} : { mtu: Number(row['mtu']) }),
    ...(row['ip4'] == null ? {} : { ip4: text('ip4') }),
    ...(row['ip6'] == null ? {} : { ip6: text('ip6') }),
    pod: text('pod'),
    created: Number(row['created']),
    ...(row['runtime'] == null ? {} : { runtime: JSON.parse(text('runtime')) as Runtime }),
    ...(row['overlay'] == null ? {} : { overlay: text('overlay') }),
  }
}
