/** The tables of the state file (state.ts), and how a file of an earlier version becomes one of this. */

/** "hwsr" in SQLite's header. */
export const APPLICATION_ID = 0x68_77_73_72
export const SCHEMA_VERSION = 4
/**
 * The earliest schema version whose hawser can read and write a file of this one; the file says it (`facts`), so
 * that an upgrade can be taken back. A change that only adds (a table, a column that may be null) leaves it as it
 * is; where a row comes to mean something else it is raised to SCHEMA_VERSION, and CHANGELOG says so.
 */
export const READABLE_FROM = 3
/** The fact that holds it. */
export const READABLE = 'readable from'

/** An INSERT of these columns by their names: a file of a later schema may have more of them. */
function into(table: string, columns: readonly string[], verb = 'INSERT'): string {
  const values = columns.map(() => '?').join(', ')
  return `${verb} INTO ${table} (${columns.join(', ')}) VALUES (${values})`
}

const KEY = ['network', 'container', 'ifname']
const CALL = ['netns', 'args', 'path', 'config']
const NAMESPACE = ['netns', 'netnsDev', 'netnsIno']
/** Their columns in the order of the table. */
const COLUMNS = [
  ...[...KEY, 'phase', ...NAMESPACE, 'kind', 'mtu', 'ip4', 'ip6', 'pod', 'created'],
  ...['runtime', 'overlay'],
]
export const INSERT = {
  attachment: into('attachments', COLUMNS),
  delegation: into('delegations', [...KEY, 'type', ...CALL, 'created'], 'INSERT OR REPLACE'),
  secondary: into(
    'secondaries',
    [...KEY, 'position', ...CALL, 'result', 'created'],
    'INSERT OR REPLACE',
  ),
  cursor: into('cursors', ['family', 'address'], 'INSERT OR REPLACE'),
  fact: into('facts', ['name', 'value'], 'INSERT OR REPLACE'),
} as const

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

const ATTACHMENTS = `
  CREATE TABLE attachments (
    network TEXT NOT NULL,
    container TEXT NOT NULL,
    ifname TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('reserved', 'attached')),
    netns TEXT NOT NULL,
    netnsDev TEXT NOT NULL,
    netnsIno TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('tun', 'xdp', 'tap')),
    mtu INTEGER,
    ip4 TEXT UNIQUE,
    ip6 TEXT UNIQUE,
    pod TEXT NOT NULL,
    created INTEGER NOT NULL,
    runtime TEXT,
    overlay TEXT,
    PRIMARY KEY (network, container, ifname)
  ) STRICT;
`

/** What brings a file of that schema version to the next one. */
export const MIGRATIONS: Readonly<Record<number, string>> = {
  1: `${DELEGATIONS} ALTER TABLE attachments ADD COLUMN runtime TEXT;`,
  2: `${SECONDARIES} ALTER TABLE attachments ADD COLUMN overlay TEXT;`,
  // A kind more: SQLite changes no CHECK in place.
  3: `
    ALTER TABLE attachments RENAME TO before;
    ${ATTACHMENTS}
    INSERT INTO attachments (${COLUMNS.join(', ')}) SELECT ${COLUMNS.join(', ')} FROM before;
    DROP TABLE before;
  `,
}

export const SCHEMA = `
  ${ATTACHMENTS}
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
