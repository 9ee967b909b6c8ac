/** State files that can't be read whole, and such that only look so. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createLogger } from '../../../cni/base/logger.ts'
import { damagedFiles, MAX_DAMAGED, openState } from '../../../cni/state/damage.ts'
import { READABLE } from '../../../cni/state/schema.ts'
import { type Attachment, SCHEMA_VERSION, type State } from '../../../cni/state/state.ts'

let folder = ''
let path = ''
let state: State | undefined
let records: Record<string, unknown>[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-damage-'))
  path = join(folder, 'state.db')
  records = []
})
afterEach(() => {
  close()
  rmSync(folder, { recursive: true, force: true })
})

function open(): State {
  const write = (line: string): void => void records.push(JSON.parse(line))
  state = openState(path, createLogger('debug', 'node-a', { write }))
  return state
}

function close(): void {
  state?.close()
  state = undefined
}

const attachment = (k: number): Attachment => ({
  network: 'hawser',
  containerId: `c${k}`,
  ifname: 'eth0',
  phase: 'attached',
  netns: `/run/netns/c${k}`,
  netnsDev: '4',
  netnsIno: String(4_026_532_000 + k),
  kind: 'tun',
  mtu: 1450,
  ip4: `10.244.${k >> 8}.${k & 255}`,
  pod: 'default/web',
  created: 1_700_000_000_000 + k,
  runtime: { mac: '02:00:00:00:00:07' },
})
const ROWS = 300

/** A file with many rows, closed: all of it is in the file itself. */
function fill(): void {
  const made = open()
  made.rebuilt(Array.from({ length: ROWS }, (_, k) => attachment(k)))
  close()
  records = []
}

function sql(text: string): void {
  const database = new DatabaseSync(path)
  database.exec(text)
  database.close()
}

function overwrite(at: number, bytes: Buffer): void {
  const fd = openSync(path, 'r+')
  writeSync(fd, bytes, 0, bytes.length, at)
  closeSync(fd)
}

/** Where a piece of text lies in the file. */
function find(text: string): number {
  const at = readFileSync(path).indexOf(text)
  expect(at).toBeGreaterThan(0)
  return at
}

const DAMAGE: readonly [string, () => void, RegExp][] = [
  ['its header is garbage', () => overwrite(0, Buffer.alloc(100, 0xa5)), /not a database/],
  ['all of it is garbage', () => writeFileSync(path, 'word '.repeat(5000)), /not a database/],
  [
    'a page in the middle is overwritten',
    () => overwrite((statSync(path).size >> 13) * 4096, Buffer.alloc(4096, 0x5a)),
    /malformed|page|Tree/,
  ],
  ['half of it is missing', () => truncateSync(path, statSync(path).size >> 1), /malformed|page/],
  ['only its first page is there', () => truncateSync(path, 4096), /malformed|page/],
  ['not even its header is there', () => truncateSync(path, 60), /malformed/],
  [
    'a folder is in its place',
    () => {
      rmSync(path)
      mkdirSync(join(path, 'deep'), { recursive: true })
    },
    /a folder, not a file/,
  ],
  ['a table is missing', () => sql('DROP TABLE attachments'), /no such table/],
  [
    'a table is missing, and the schema is an earlier one',
    () => sql('DROP TABLE attachments; DROP TABLE secondaries; PRAGMA user_version = 2'),
    /no such table/,
  ],
  [
    'an index disagrees with its table',
    () => {
      // The address stands first in its row, then in its index.
      overwrite(find('10.244.1.7') + 9, Buffer.from('8'))
    },
    /missing from index|UNIQUE/,
  ],
  [
    'a row holds no address',
    () => sql("UPDATE attachments SET ip4 = '10.244' WHERE ip4 = '10.244.0.9'"),
    /address "10.244"/,
  ],
  [
    'a row holds no JSON',
    () => sql("UPDATE attachments SET runtime = '{' WHERE container = 'c5'"),
    /JSON/,
  ],
]

describe('a damaged file is set aside, and a new one is in its place', () => {
  test.each(DAMAGE)('%s', (_, damage, cause) => {
    fill()
    damage()
    const before = statSync(path).isFile() ? readFileSync(path) : undefined
    expect(open().list()).toEqual([])
    expect(state?.rebuildDue).toBe(true)
    const [kept, ...more] = damagedFiles(path)
    expect(more).toEqual([])
    expect(basename(kept!)).toMatch(/^state\.db\.damaged-\d{8}T\d{9}Z$/)
    if (before === undefined) expect(readdirSync(kept!)).toEqual(['deep'])
    else expect(readFileSync(kept!).equals(before)).toBe(true)
    expect(records).toHaveLength(1)
    expect(records[0]).toMatchObject({ level: 'error', state: path, kept })
    expect(records[0]?.['cause']).toMatch(cause)
    state?.rebuilt([attachment(1)])
    close()
    expect(open().list()).toEqual([attachment(1)])
    expect([damagedFiles(path).length, records.length]).toEqual([1, 1])
  })

  test('with its -wal and -shm, which are kept beside it', () => {
    fill()
    open()
    state?.insert(attachment(ROWS))
    // As a killed daemon leaves it.
    const wal = readFileSync(`${path}-wal`)
    expect(wal.length).toBeGreaterThan(4096)
    const shm = readFileSync(`${path}-shm`)
    close()
    overwrite(0, Buffer.alloc(100, 0xa5))
    writeFileSync(`${path}-wal`, wal)
    writeFileSync(`${path}-shm`, shm)
    open()
    const [kept] = damagedFiles(path)
    expect(readFileSync(`${kept}-wal`).equals(wal)).toBe(true)
    expect(existsSync(`${kept}-shm`)).toBe(true)
  })

  test('a -wal whose file was set aside before the process died is set aside too', () => {
    fill()
    writeFileSync(`${path}-wal`, 'what was not in the file yet')
    rmSync(path)
    expect(open().list()).toEqual([])
    const [kept] = damagedFiles(path)
    expect(readFileSync(`${kept}-wal`, 'utf8')).toBe('what was not in the file yet')
    expect(records[0]).toMatchObject({ level: 'error', kept })
  })

  test('only the last ones are kept, and nothing else is touched', () => {
    const old = Array.from({ length: 6 }, (_, k) => `${path}.damaged-2026010${k}T000000000Z`)
    for (const each of old) for (const end of ['', '-wal']) writeFileSync(each + end, 'old')
    const others = [
      `${path}.damaged-by-me`,
      `${path}.damaged-20260101T000000000Z.txt`,
      `${path}.bak`,
    ]
    for (const each of others) writeFileSync(each, 'mine')
    writeFileSync(path, 'word '.repeat(1000))
    open()
    const kept = damagedFiles(path)
    expect(kept).toHaveLength(MAX_DAMAGED)
    expect(kept.slice(0, -1)).toEqual(old.slice(1 - MAX_DAMAGED))
    for (const each of old.slice(0, 1 - MAX_DAMAGED)) {
      expect([existsSync(each), existsSync(`${each}-wal`)]).toEqual([false, false])
    }
    for (const each of others) expect(existsSync(each)).toBe(true)
  })
})

describe('what is not damage', () => {
  test('an empty file is a new one', () => {
    writeFileSync(path, '')
    expect(open().rebuildDue).toBe(true)
    expect([damagedFiles(path), records]).toEqual([[], []])
  })

  test('a file that was filled is not filled again', () => {
    fill()
    expect([open().rebuildDue, state?.list().length]).toEqual([false, ROWS])
  })

  test('one that was made and not filled still has to be', () => {
    open()
    close()
    expect(open().rebuildDue).toBe(true)
  })

  test('a -wal that was cut is what SQLite expects after a power loss', () => {
    fill()
    open().insert(attachment(ROWS))
    const wal = readFileSync(`${path}-wal`)
    close()
    writeFileSync(`${path}-wal`, wal.subarray(0, wal.length - 1000))
    expect(open().list()).toHaveLength(ROWS + 1)
    expect(records).toEqual([])
  })

  test.each([
    [
      'of a later version',
      `PRAGMA user_version = ${SCHEMA_VERSION + 1}; UPDATE facts SET value = '${SCHEMA_VERSION + 1}' WHERE name = '${READABLE}'`,
      /schema version/,
    ],
    ['of another application', 'PRAGMA application_id = 7', /not a state file of hawser/],
  ])('a file %s is refused and left as it is', (_, change, cause) => {
    fill()
    sql(change)
    const before = readFileSync(path)
    expect(() => open()).toThrow(cause)
    expect(readFileSync(path).equals(before)).toBe(true)
    expect([damagedFiles(path), records]).toEqual([[], []])
  })

  test('a stranger’s file keeps its mode and its journal', () => {
    sql('CREATE TABLE theirs (a)')
    const { mode } = statSync(path)
    const before = readFileSync(path)
    expect(() => open()).toThrow(/not a state file of hawser/)
    expect(statSync(path).mode).toBe(mode)
    expect(readFileSync(path).equals(before)).toBe(true)
    expect(readdirSync(folder)).toEqual(['state.db'])
  })
})
