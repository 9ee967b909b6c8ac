/**
 * The durable state of a node: which attachment has which addresses. SQLite in WAL mode with
 * `synchronous=FULL`: what a method has returned from survives a power loss. Those that every ADD and DEL
 * call (`transactionUnsynced`, `markAttached`, `release`) don't wait for the disk: they survive the end of this
 * process, but not of the kernel, which ends the attachments themselves. ADD waits by `durable()` for the row of
 * its addresses before it answers; one wait of the disk serves all who ask in the meantime.
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
 * back, so it stays, over boots too, where an attachment's row is gone already or never was. The same
 * holds for a pod's further interfaces and their rows in `secondaries`, one for each, in order.
 *
 * The file is known as ours by its application id; its schema version is `user_version`. A file of
 * an earlier one is brought to this one when it is opened (MIGRATIONS). One of a later version is read and
 * written as it is when it says that this one may (READABLE_FROM); otherwise it is refused and left alone,
 * as another application's is. All else that can't be read whole is damage
 * (DamagedState), which state-damage.ts makes up for: SQLite's own check of every page and index when
 * the file is opened, and every row decoded. A new file says that it doesn't know yet what pods there
 * are (`rebuildDue`), until state-rebuild.ts has looked; so a process that dies in between leaves that
 * to the next one.
 */

import { chmodSync, readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { steadyNow } from '../base/clock.ts'
import { makeFolder, syncFolder } from '../fs/folder.ts'
import { type AttachmentKey, attachmentId, type Delegation } from '../spec/attachment.ts'
import {
  type Attachment,
  addressesOf,
  fromRow,
  keyOf,
  type Row,
  type Secondary,
  secondaryOf,
  value,
  words,
} from './rows.ts'
import {
  APPLICATION_ID,
  INSERT,
  MIGRATIONS,
  READABLE,
  READABLE_FROM,
  SCHEMA,
  SCHEMA_VERSION,
} from './schema.ts'
import { WriteAheadLog } from './write-ahead-log.ts'

export {
  APPLICATION_ID,
  type Attachment,
  type AttachmentKey,
  attachmentId,
  type Delegation,
  SCHEMA_VERSION,
  type Secondary,
}

/** What address choice needs to know of one family. */
export interface AddressUse {
  taken: Set<bigint>
  /** Freed addresses and when (clock.ts), the oldest first. */
  cooling: Map<bigint, number>
  /** The address that was found last, in the pool that was asked for. */
  cursor?: bigint
}

/** This boot of the kernel (random(4)). */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/** SQLITE_ERROR (a table is not there), SQLITE_CORRUPT, SQLITE_NOTADB (https://sqlite.org/rescode.html). */
const DAMAGE_CODES: readonly number[] = [1, 11, 26]
/** The fact of a file that nobody has filled with the pods that run. */
const REBUILD_DUE = 'rebuild'
/** What facts begin with that hold a pool's cursor. */
const CURSOR_OF = 'cursor of '

/** The state file is ours, or should be, and can't be read whole. */
export class DamagedState extends Error {
  override readonly name = 'DamagedState'
}

/** SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN: the disk takes nothing. */
const DISK_CODES: readonly number[] = [8, 10, 13, 14]
/** The fact that is written to find out whether the disk takes something again. */
const PROBE = 'probe'

/** The code of SQLite's own errors. */
const STATE_FAILURE = 'ERR_SQLITE_ERROR'

/** Whether an error is SQLite's own, of the file or its disk: full, broken, read-only. */
export function isStateFailure(error: unknown): error is Error {
  return (error as { code?: unknown } | null)?.code === STATE_FAILURE
}

export class State {
  readonly path: string
  /** Attachments of an earlier boot that were forgotten when the file was opened. */
  readonly forgotten: number
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  /** The last write failed, and why. */
  #failure: { cause: string; since: number } | undefined
  /** The transaction under way has changed something. */
  #wrote = false
  readonly #log: WriteAheadLog

  /**
   * Opens or makes the file at `path` (and its folder). Throws an Error that names it, DamagedState
   * for damage; that is handed to `damaged` before, while the file is still open: one that is moved
   * away then stays as it is, where SQLite else would close it with its -wal written into it.
   */
  constructor(path: string, boot: string = bootId(), damaged?: (error: DamagedState) => void) {
    this.path = path
    this.#log = new WriteAheadLog(`${path}-wal`)
    makeFolder(dirname(path), 0o755)
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
      const error = new DamagedState(`${path}: a folder, not a file`)
      damaged?.(error)
      throw error
    }
    try {
      this.#database = new DatabaseSync(path)
    } catch (error) {
      throw new Error(`${path}: ${(error as Error).message}`, { cause: error })
    }
    try {
      const version = this.#recognise()
      chmodSync(path, 0o600)
      this.#database.exec('PRAGMA journal_mode = WAL')
      this.#database.exec('PRAGMA synchronous = FULL')
      if (version === 0) this.transaction(() => this.#create())
      else {
        this.#checkPages()
        this.transaction(() => this.#migrate(version))
        this.#checkRows()
      }
      this.forgotten = this.transaction(() => this.#enterBoot(boot))
      // The file's own name must outlive a power loss too.
      if (version === 0) syncFolder(dirname(path))
    } catch (error) {
      try {
        const { message, errcode } = error as Error & { errcode?: number }
        if (error instanceof DamagedState || DAMAGE_CODES.includes((errcode ?? 0) & 0xff)) {
          const damage = new DamagedState(`${path}: ${message}`, { cause: error })
          damaged?.(damage)
          throw damage
        }
        throw new Error(
          `${path}: ${message} (a file that can't be used must be moved away by hand: it says which addresses are taken)`,
          { cause: error },
        )
      } finally {
        this.#database.close()
      }
    }
  }

  /** The schema version of a file of ours, 0 for an empty one. Throws for others; changes nothing. */
  #recognise(): number {
    const pragma = (name: string): number =>
      Number(Object.values(this.#get(`PRAGMA ${name}`) ?? {})[0])
    const application = pragma('application_id')
    const version = pragma('user_version')
    const tables = Number(this.#get('SELECT count(*) AS n FROM sqlite_schema')?.['n'])
    if (application === 0 && version === 0 && tables === 0) return 0
    if (application !== APPLICATION_ID) throw new Error('not a state file of hawser')
    if (version > SCHEMA_VERSION && this.#readableFrom() > SCHEMA_VERSION) {
      throw new Error(
        `schema version ${version}, this hawser knows ${SCHEMA_VERSION}: start the later one again, or see cni/deploy/UPGRADE.md`,
      )
    }
    if (version < SCHEMA_VERSION && MIGRATIONS[version] === undefined) {
      throw new Error(`schema version ${version}, this hawser knows ${SCHEMA_VERSION}`)
    }
    return version
  }

  /** What a file of a later version says of itself; infinite when it says nothing. */
  #readableFrom(): number {
    const facts = this.#get("SELECT 1 FROM sqlite_schema WHERE name = 'facts'")
    const said = facts && this.#get('SELECT value FROM facts WHERE name = ?', READABLE)?.['value']
    return /^[1-9][0-9]{0,8}$/.test(String(said)) ? Number(said) : Number.POSITIVE_INFINITY
  }

  #create(): void {
    this.#database.exec(SCHEMA)
    this.#database.exec(`PRAGMA application_id = ${APPLICATION_ID}`)
    this.#database.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`)
    this.#run(INSERT.fact, REBUILD_DUE, 'due')
    this.#run(INSERT.fact, READABLE, String(READABLE_FROM))
  }

  #migrate(version: number): void {
    // A file of a later version stays one.
    if (version > SCHEMA_VERSION) return
    for (let from = version; from < SCHEMA_VERSION; from++) {
      this.#database.exec(MIGRATIONS[from]!)
      this.#database.exec(`PRAGMA user_version = ${from + 1}`)
    }
    if (this.#readableFrom() === READABLE_FROM) return
    this.#run(INSERT.fact, READABLE, String(READABLE_FROM))
  }

  #checkPages(): void {
    const found = Object.values(this.#get('PRAGMA integrity_check(1)') ?? {})[0]
    if (found !== 'ok') throw new DamagedState(String(found))
  }

  /** SQLite knows pages, not what their bytes should say. */
  #checkRows(): void {
    try {
      for (const row of this.list()) {
        for (const [, address] of addressesOf(row)) value(address)
      }
      for (const family of [4, 6] as const) this.addressUse(family)
      const cursors = this.#all('SELECT value FROM facts WHERE name GLOB ?', `${CURSOR_OF}*`)
      for (const row of cursors) value(row['value'])
      for (const table of ['delegations', 'secondaries']) this.#all(`SELECT * FROM ${table}`)
    } catch (error) {
      if ((error as { errcode?: number }).errcode !== undefined) throw error
      throw new DamagedState((error as Error).message, { cause: error })
    }
  }

  /** Whether the file is new, and what pods there are is not in it yet. */
  get rebuildDue(): boolean {
    return this.#get('SELECT value FROM facts WHERE name = ?', REBUILD_DUE) !== undefined
  }

  /** Fills a new file with the attachments that are there; all or nothing. */
  rebuilt(attachments: readonly Attachment[]): void {
    this.transaction(() => {
      for (const each of attachments) this.insert(each, [])
      this.#run('DELETE FROM facts WHERE name = ?', REBUILD_DUE)
    })
  }

  #enterBoot(boot: string): number {
    const known = this.#get("SELECT value FROM facts WHERE name = 'boot'")?.['value']
    if (known === boot) return 0
    const gone = this.list()
    for (const each of gone) this.#remove(each, steadyNow())
    this.#run(INSERT.fact, 'boot', boot)
    return gone.length
  }

  /**
   * Waits until all that has been written so far survives a power loss. Rejects when the disk refuses:
   * with an error for which `isStateFailure` holds.
   */
  async durable(): Promise<void> {
    try {
      await this.#log.sync()
    } catch (error) {
      const cause = (error as Error).message
      this.#failure = { cause, since: this.#failure?.since ?? Date.now() }
      throw Object.assign(new Error(cause, { cause: error }), { code: STATE_FAILURE })
    }
  }

  /** Runs `work`, which writes, without waiting for the disk: `durable()` does. */
  #unsynced<T>(work: () => T): T {
    this.#database.exec('PRAGMA synchronous = NORMAL')
    try {
      return work()
    } finally {
      this.#database.exec('PRAGMA synchronous = FULL')
    }
  }

  /** As `transaction`, durable once `durable()` has resolved. */
  transactionUnsynced<T>(work: () => T): T {
    return this.#unsynced(() => this.transaction(work))
  }

  /** Runs `work` all or nothing; what it did is durable when this returns. */
  transaction<T>(work: () => T): T {
    try {
      this.#database.exec('BEGIN IMMEDIATE')
      this.#wrote = false
      const result = work()
      this.#database.exec('COMMIT')
      // One that had nothing to write says nothing of the disk.
      if (this.#wrote) this.#failure = undefined
      return result
    } catch (error) {
      this.#noteFailure(error)
      // The statement that failed may have ended the transaction already.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  #noteFailure(error: unknown): void {
    const { errcode, message } = error as Error & { errcode?: number }
    if (!isStateFailure(error) || !DISK_CODES.includes((errcode ?? 0) & 0xff)) return
    this.#failure = { cause: message, since: this.#failure?.since ?? Date.now() }
  }

  /** Why nothing can be written now, and since when: a write has failed and none has succeeded since, one that is tried now neither. */
  unwritable(): string | undefined {
    if (this.#failure === undefined) return undefined
    try {
      this.transaction(() => this.#run(INSERT.fact, PROBE, String(Date.now())))
    } catch (error) {
      if (!isStateFailure(error)) throw error
    }
    if (this.#failure === undefined) return undefined
    const { cause, since } = this.#failure
    return `${this.path} can't be written since ${new Date(since).toISOString()}: ${cause}`
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
      INSERT.attachment,
      ...words(attachment),
      ...[phase, netns, netnsDev, netnsIno, kind, mtu ?? null, ip4 ?? null, ip6 ?? null, pod],
      created,
      runtime === undefined ? null : JSON.stringify(runtime),
      overlay ?? null,
    )
    for (const [family, address] of addressesOf(attachment)) {
      this.warm(address)
      if (!chosen.includes(family)) continue
      this.#run(INSERT.cursor, family, address)
    }
  }

  /** Whose address it is. */
  holder(family: 4 | 6, address: string): AttachmentKey | undefined {
    const column = family === 4 ? 'ip4' : 'ip6'
    const row = this.#get(`SELECT * FROM attachments WHERE ${column} = ?`, address)
    return row === undefined ? undefined : keyOf(row)
  }

  /** The interface of a reserved attachment is there and has this MTU. Doesn't wait for the disk. */
  markAttached(key: AttachmentKey, mtu: number): void {
    const changed = this.#unsynced(() =>
      this.#run(
        `UPDATE attachments SET phase = 'attached', mtu = ?
         WHERE network = ? AND container = ? AND ifname = ?`,
        mtu,
        ...words(key),
      ),
    )
    if (changed !== 1) throw new Error(`${attachmentId(key)}: no such attachment in ${this.path}`)
  }

  /** Removes the row if it is there and lets its addresses cool down from `now` on. Doesn't wait for the disk. */
  release(key: AttachmentKey, now: number = steadyNow()): void {
    this.transactionUnsynced(() => this.#remove(key, now))
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
    this.#run(INSERT.delegation, ...words(key), ...[type, netns, args, path, config, created])
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

  /** Writes down, or anew, what the plugins of a further interface are called with. */
  keepSecondary(key: AttachmentKey, secondary: Secondary): void {
    const { position, netns, args, path, config, result, created } = secondary
    this.#run(
      INSERT.secondary,
      ...words(key),
      ...[position, netns, args, path, config, result ?? null, created],
    )
  }

  /** The further interfaces of an attachment, in order. */
  secondaries(key: AttachmentKey): Secondary[] {
    return this.#all(
      `SELECT * FROM secondaries WHERE network = ? AND container = ? AND ifname = ?
       ORDER BY position`,
      ...words(key),
    ).map(secondaryOf)
  }

  /** Those of all attachments, and of those that are gone. */
  allSecondaries(): { key: AttachmentKey; secondary: Secondary }[] {
    const rows = this.#all(
      'SELECT * FROM secondaries ORDER BY network, container, ifname, position',
    )
    return rows.map(row => ({ key: keyOf(row), secondary: secondaryOf(row) }))
  }

  /** Nothing is left of it. */
  forgetSecondary(key: AttachmentKey, position: number): void {
    this.#run(
      `DELETE FROM secondaries
       WHERE network = ? AND container = ? AND ifname = ? AND position = ?`,
      ...words(key),
      position,
    )
  }

  /** Forgets that an address rests. */
  warm(address: string): void {
    this.#run('DELETE FROM cooling WHERE address = ?', address)
  }

  /** Lets all that rest begin anew at `now`: by which clock they were freed is not known any more. */
  restAnew(now: number = steadyNow()): void {
    this.#run('UPDATE cooling SET freed = ?', now)
  }

  /** Forgets addresses that were freed at `before` or earlier: they have cooled down. */
  cooled(before: number): void {
    this.#run('DELETE FROM cooling WHERE freed <= ?', before)
  }

  /** The next search in `pool` (its text) goes on behind `address`. */
  moveCursor(pool: string, address: string): void {
    this.#run(INSERT.fact, `${CURSOR_OF}${pool}`, address)
  }

  /** `pool`: whose cursor it is to have; absent: the family's. */
  addressUse(family: 4 | 6, pool?: string): AddressUse {
    const column = family === 4 ? 'ip4' : 'ip6'
    const taken = this.#all(`SELECT ${column} AS a FROM attachments WHERE ${column} IS NOT NULL`)
    const cooling = this.#all(
      'SELECT address, freed FROM cooling WHERE family = ? ORDER BY number',
      family,
    )
    const cursor =
      pool === undefined
        ? this.#get('SELECT address FROM cursors WHERE family = ?', family)?.['address']
        : this.#get('SELECT value FROM facts WHERE name = ?', `${CURSOR_OF}${pool}`)?.['value']
    return {
      taken: new Set(taken.map(row => value(row['a']))),
      cooling: new Map(cooling.map(row => [value(row['address']), Number(row['freed'])])),
      ...(cursor === undefined ? {} : { cursor: value(cursor) }),
    }
  }

  close(): void {
    this.#statements.clear()
    this.#log.close()
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
    try {
      const { changes } = this.#prepare(sql).run(...values)
      if (Number(changes) > 0) {
        if (this.#database.isTransaction) this.#wrote = true
        else this.#failure = undefined
      }
      return Number(changes)
    } catch (error) {
      this.#noteFailure(error)
      throw error
    }
  }
}
