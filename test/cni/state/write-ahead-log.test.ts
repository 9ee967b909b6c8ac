import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { State } from '../../../cni/state/state.ts'
import { WriteAheadLog } from '../../../cni/state/write-ahead-log.ts'

const calls = vi.hoisted(() => ({
  synced: 0,
  hold: [] as (() => void)[],
  error: undefined as Error | undefined,
}))
vi.mock('node:fs', async original => {
  const fs = await original<typeof import('node:fs')>()
  const fdatasync = (fd: number, done: (error: Error | null) => void): void => {
    calls.synced++
    calls.hold.push(() => {
      if (calls.error === undefined) fs.fdatasyncSync(fd)
      done(calls.error ?? null)
    })
  }
  return { ...fs, fdatasync }
})

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-wal-'))
  Object.assign(calls, { synced: 0, hold: [], error: undefined })
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const release = (): void => calls.hold.shift()!()

test('one wait serves all who ask while another runs', async () => {
  const path = join(folder, 'log')
  writeFileSync(path, 'frames')
  const log = new WriteAheadLog(path)
  const first = log.sync()
  const others = [log.sync(), log.sync(), log.sync()]
  expect(calls.synced).toBe(1)
  release()
  await first
  await vi.waitFor(() => expect(calls.synced).toBe(2))
  release()
  await Promise.all(others)
  expect(calls.synced).toBe(2)
  log.close()
})

test('who asks behind one that has failed is served by the next', async () => {
  const path = join(folder, 'log')
  writeFileSync(path, 'frames')
  const log = new WriteAheadLog(path)
  calls.error = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' })
  const first = log.sync()
  const second = log.sync()
  release()
  await expect(first).rejects.toThrow('EIO')
  calls.error = undefined
  await vi.waitFor(() => expect(calls.synced).toBe(2))
  release()
  await second
  log.close()
})

test('a disk that refuses is the state file’s failure, and a write that succeeds ends it', async () => {
  const state = new State(join(folder, 'state.db'), 'boot')
  state.transactionUnsynced(() => state.moveCursor('10.0.0.0/24', '10.0.0.9'))
  calls.error = new Error('EIO: i/o error, fdatasync')
  const durable = state.durable()
  release()
  await expect(durable).rejects.toMatchObject({ code: 'ERR_SQLITE_ERROR' })
  calls.error = undefined
  expect(state.unwritable()).toBeUndefined()
  state.close()
})

test('what was written without waiting is in the file of the log, and read again', () => {
  const path = join(folder, 'state.db')
  const state = new State(path, 'boot')
  const before = readFileSync(`${path}-wal`).length
  state.transactionUnsynced(() => state.moveCursor('10.0.0.0/24', '10.0.0.9'))
  expect(readFileSync(`${path}-wal`).length).toBeGreaterThan(before)
  const other = new State(path, 'boot')
  expect(other.addressUse(4, '10.0.0.0/24').cursor).toBe(0x0a00_0009n)
  other.close()
  state.close()
})
