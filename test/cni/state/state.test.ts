import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Runtime } from '../../../cni/spec/runtime-config.ts'
import { READABLE_FROM } from '../../../cni/state/schema.ts'
import {
  type Attachment,
  attachmentId,
  bootId,
  type Delegation,
  SCHEMA_VERSION,
  State,
} from '../../../cni/state/state.ts'

let folder = ''
let path = ''
const open: State[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-state-'))
  path = join(folder, 'deep', 'state.db')
})
afterEach(() => {
  for (const state of open.splice(0)) state.close()
  rmSync(folder, { recursive: true, force: true })
})

function openState(boot = 'boot-1'): State {
  const state = new State(path, boot)
  open.push(state)
  return state
}

function reopen(boot = 'boot-1'): State {
  open.pop()?.close()
  return openState(boot)
}

const ATTACHMENT: Attachment = {
  network: 'hawser',
  containerId: 'abc',
  ifname: 'eth0',
  phase: 'reserved',
  netns: '/run/netns/abc',
  netnsDev: '4',
  netnsIno: '4026531840',
  kind: 'xdp',
  ip4: '10.244.0.2',
  ip6: 'fd00:10:244::2',
  pod: 'default/web',
  created: 1_700_000_000_000,
}

const RUNTIME: Runtime = {
  mac: '02:00:00:00:00:07',
  bandwidth: { egressRate: 1_000_000, egressBurst: 0 },
  portMappings: [{ protocol: 'udp', hostPort: 53, containerPort: 5353, hostIP: '::' }],
}

test('an attachment is there again after the file was closed, and its phase and MTU', () => {
  openState().insert(ATTACHMENT)
  const second = reopen()
  expect(second.get(ATTACHMENT)).toEqual(ATTACHMENT)
  second.markAttached(ATTACHMENT, 1450)
  const third = reopen()
  expect(third.list()).toEqual([{ ...ATTACHMENT, phase: 'attached', mtu: 1450 }])
  expect(third.forgotten).toBe(0)
  expect(attachmentId(ATTACHMENT)).toBe('hawser/abc/eth0')
})

test('what a runtime asked for is kept as it was', () => {
  openState().insert({ ...ATTACHMENT, runtime: RUNTIME })
  expect(reopen().get(ATTACHMENT)).toEqual({ ...ATTACHMENT, runtime: RUNTIME })
})

test('the key is network, container and interface; each apart', () => {
  const state = openState()
  const other = { ...ATTACHMENT, ip4: '10.244.0.3', ip6: 'fd00:10:244::3' }
  state.insert(ATTACHMENT)
  for (const key of [{ network: 'n' }, { containerId: 'c' }, { ifname: 'i' }]) {
    expect(state.get({ ...ATTACHMENT, ...key })).toBeUndefined()
  }
  state.insert({ ...other, ifname: 'eth1' })
  state.release(ATTACHMENT)
  expect(state.list().map(attachmentId)).toEqual(['hawser/abc/eth1'])
})

test('a released address cools down, the oldest first, until it is forgotten or taken again', () => {
  const state = openState()
  state.insert(ATTACHMENT)
  expect(state.addressUse(4)).toEqual({
    taken: new Set([0x0af40002n]),
    cooling: new Map(),
    cursor: 0x0af40002n,
  })
  state.release(ATTACHMENT, 100)
  state.release(ATTACHMENT, 999)
  state.insert({ ...ATTACHMENT, ip4: '10.244.0.9', ip6: 'fd00:10:244::9' })
  state.release(ATTACHMENT, 50)
  const again = reopen()
  expect([...again.addressUse(4).cooling]).toEqual([
    [0x0af40002n, 100],
    [0x0af40009n, 50],
  ])
  expect(again.addressUse(6).cooling.size).toBe(2)
  again.cooled(99)
  expect([...again.addressUse(4).cooling.keys()]).toEqual([0x0af40002n])
  again.insert(ATTACHMENT)
  expect(again.addressUse(4).cooling.size).toBe(0)
})

test('what rests can begin anew: by another clock than it was freed by', () => {
  const state = openState()
  state.insert(ATTACHMENT)
  state.release(ATTACHMENT, Date.now() + 1e12)
  state.restAnew(500)
  expect([...state.addressUse(4).cooling.values()]).toEqual([500])
  state.restAnew()
  const [freed] = state.addressUse(4).cooling.values()
  expect(Math.abs(freed! - Date.now())).toBeLessThan(60_000)
})

test('an address can not be given twice, and the transaction that tries leaves nothing', () => {
  const state = openState()
  state.insert(ATTACHMENT)
  const second = { ...ATTACHMENT, containerId: 'def', ip4: '10.244.0.3' }
  expect(() => state.transaction(() => state.insert(second))).toThrow(/UNIQUE.*ip6/)
  expect(() =>
    state.transaction(() => {
      state.release(ATTACHMENT)
    }),
  ).toThrow(/transaction/)
  expect(state.list()).toEqual([ATTACHMENT])
  expect(state.addressUse(4).cursor).toBe(0x0af40002n)
})

test('another boot forgets all attachments and lets their addresses cool down', () => {
  openState().insert(ATTACHMENT)
  const state = reopen('boot-2')
  expect(state.forgotten).toBe(1)
  expect(state.list()).toEqual([])
  expect([...state.addressUse(6).cooling.keys()]).toHaveLength(1)
  expect(reopen('boot-2').forgotten).toBe(0)
  expect(bootId()).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
})

const DELEGATION: Delegation = {
  type: 'host-local',
  netns: '/run/netns/abc',
  args: 'K8S_POD_NAME=web',
  path: '/opt/cni/bin',
  config: '{"name":"hawser"}',
  created: 1_700_000_000_000,
}

test("an IPAM plugin's call outlives the attachment's row and a boot, until it is forgotten", () => {
  openState().keepDelegation(ATTACHMENT, DELEGATION)
  open[0]?.insert(ATTACHMENT)
  const state = reopen('boot-2')
  expect(state.list()).toEqual([])
  expect(state.delegation(ATTACHMENT)).toEqual(DELEGATION)
  expect(state.delegation({ ...ATTACHMENT, ifname: 'eth1' })).toBeUndefined()
  state.keepDelegation(ATTACHMENT, { ...DELEGATION, type: 'static' })
  const { network, containerId, ifname } = ATTACHMENT
  const { created } = DELEGATION
  expect(state.delegations()).toEqual([{ network, containerId, ifname, type: 'static', created }])
  state.forgetDelegation(ATTACHMENT)
  expect(reopen('boot-2').delegations()).toEqual([])
})

test('who holds an address is known, and only addresses that were searched for move the cursor', () => {
  const state = openState()
  state.insert(ATTACHMENT, [6])
  expect(state.holder(4, '10.244.0.2')).toMatchObject({ containerId: 'abc', ifname: 'eth0' })
  expect(state.holder(6, 'fd00:10:244::3')).toBeUndefined()
  expect(state.addressUse(4).cursor).toBeUndefined()
  expect(state.addressUse(6).cursor).toBe((0xfd00_0010_0244n << 80n) | 2n)
})

/** What makes a file of this version one of an earlier one. */
const BACK: Readonly<Record<number, string>> = {
  3: `
    CREATE TABLE three AS SELECT * FROM attachments;
    DROP TABLE attachments;
    CREATE TABLE attachments (
      network TEXT NOT NULL, container TEXT NOT NULL, ifname TEXT NOT NULL,
      phase TEXT NOT NULL CHECK (phase IN ('reserved', 'attached')),
      netns TEXT NOT NULL, netnsDev TEXT NOT NULL, netnsIno TEXT NOT NULL,
      kind TEXT NOT NULL CHECK (kind IN ('tun', 'xdp')),
      mtu INTEGER, ip4 TEXT UNIQUE, ip6 TEXT UNIQUE, pod TEXT NOT NULL, created INTEGER NOT NULL,
      runtime TEXT, overlay TEXT, PRIMARY KEY (network, container, ifname)
    ) STRICT;
    INSERT INTO attachments SELECT * FROM three;
    DROP TABLE three`,
  2: 'DROP TABLE secondaries; ALTER TABLE attachments DROP COLUMN overlay',
  1: 'DROP TABLE delegations; ALTER TABLE attachments DROP COLUMN runtime',
}

test.each([1, 2, 3])(
  'a file of schema version %i is brought to this one with all that it holds',
  to => {
    openState().insert(ATTACHMENT)
    open.pop()?.close()
    const database = new DatabaseSync(path)
    for (let version = SCHEMA_VERSION - 1; version >= to; version--) database.exec(BACK[version]!)
    database.exec(`PRAGMA user_version = ${to}`)
    database.close()
    const state = openState()
    expect(state.list()).toEqual([ATTACHMENT])
    expect(state.addressUse(4).cursor).toBe(0x0af40002n)
    state.keepDelegation(ATTACHMENT, DELEGATION)
    const tap = { ...ATTACHMENT, kind: 'tap', ifname: 'eth1', ip4: '10.244.0.9' } as const
    state.insert({ ...tap, ip6: 'fd00:10:244::9' })
    expect(reopen().delegation(ATTACHMENT)).toEqual(DELEGATION)
    const version = new DatabaseSync(path)
    expect(version.prepare('PRAGMA user_version').get()).toEqual({ user_version: SCHEMA_VERSION })
    version.close()
  },
)

test('a file of a later version that only adds something is read and written, and stays one', () => {
  openState().insert(ATTACHMENT)
  open.pop()?.close()
  const later = new DatabaseSync(path)
  later.exec(`
    CREATE TABLE colours (name TEXT PRIMARY KEY) STRICT;
    INSERT INTO colours VALUES ('red');
    ALTER TABLE attachments ADD COLUMN colour TEXT;
    ALTER TABLE delegations ADD COLUMN colour TEXT;
    ALTER TABLE secondaries ADD COLUMN colour TEXT;
    UPDATE attachments SET colour = 'red';
    PRAGMA user_version = ${SCHEMA_VERSION + 1}`)
  later.close()
  const state = openState()
  expect(state.list()).toEqual([ATTACHMENT])
  const other = { ...ATTACHMENT, containerId: 'other', ip4: '10.244.0.9', ip6: 'fd00:10:244::9' }
  state.insert(other)
  state.keepDelegation(other, DELEGATION)
  state.keepSecondary(other, { ...DELEGATION, position: 0 })
  open.pop()?.close()
  // The later one finds what it had added, and what happened meanwhile.
  const again = new DatabaseSync(path)
  expect(again.prepare('PRAGMA user_version').get()).toEqual({ user_version: SCHEMA_VERSION + 1 })
  expect(again.prepare('SELECT name FROM colours').all()).toEqual([{ name: 'red' }])
  expect(again.prepare('SELECT container, colour FROM attachments ORDER BY 1').all()).toEqual([
    { container: 'abc', colour: 'red' },
    { container: 'other', colour: null },
  ])
  for (const table of ['delegations', 'secondaries']) {
    expect(again.prepare(`SELECT container FROM ${table}`).all()).toEqual([{ container: 'other' }])
  }
  again.close()
})

test('a file says from which version on it can be read, an older one too once it is opened', () => {
  openState()
  const said = (): unknown => {
    const database = new DatabaseSync(path)
    const rows = database.prepare("SELECT value FROM facts WHERE name = 'readable from'").all()
    database.close()
    return rows
  }
  expect(said()).toEqual([{ value: String(READABLE_FROM) }])
  open.pop()?.close()
  const database = new DatabaseSync(path)
  database.exec("DELETE FROM facts WHERE name = 'readable from'")
  database.close()
  openState()
  expect(said()).toEqual([{ value: String(READABLE_FROM) }])
})

test('what was not attached can not be marked so', () => {
  expect(() => openState().markAttached(ATTACHMENT, 1450)).toThrow(
    `hawser/abc/eth0: no such attachment in ${path}`,
  )
})

test('it is written through to the disk, and for root alone', () => {
  openState()
  expect(statSync(path).mode & 0o777).toBe(0o600)
  const database = new DatabaseSync(path)
  expect(database.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' })
  database.close()
})

test('a file that is not ours, of another schema, or broken is refused by name and left alone', () => {
  const at = (name: string): string => join(folder, name)
  const make = (name: string, sql: string): string => {
    const database = new DatabaseSync(at(name))
    database.exec(sql)
    database.close()
    return at(name)
  }
  const foreign = make('foreign.db', 'CREATE TABLE t (a)')
  expect(() => new State(foreign)).toThrow(`${foreign}: not a state file of hawser`)
  open.push(new State(path))
  open.pop()?.close()
  const database = new DatabaseSync(path)
  database.exec('PRAGMA user_version = 99')
  // What it says of itself, or that it says nothing.
  for (const said of [
    "UPDATE facts SET value = '99'",
    "UPDATE facts SET value = 'x'",
    'DELETE FROM facts',
  ]) {
    database.exec(said)
    expect(() => new State(path)).toThrow(
      `${path}: schema version 99, this hawser knows ${SCHEMA_VERSION}`,
    )
  }
  database.close()
  writeFileSync(at('text.db'), 'no database at all, but long enough for a header of one'.repeat(10))
  expect(() => new State(at('text.db'))).toThrow(`${at('text.db')}: file is not a database`)
  expect(() => new State(folder)).toThrow(folder)
})
