import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { takeLock } from '../../../cni/fs/lock.ts'

let folder = ''
let child: ChildProcess | undefined
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-lock-'))
})
afterEach(() => {
  child?.kill('SIGKILL')
  child = undefined
  rmSync(folder, { recursive: true, force: true })
})

test('a lock can be taken once, given up and taken again', () => {
  const path = join(folder, 'deep', 'cni.sock')
  const release = takeLock(path)
  expect(() => takeLock(path)).toThrow(
    `${path}: a hawser daemon already serves it (process ${process.pid}); stop that one first`,
  )
  release()
  takeLock(path)()
})

test("another process' lock names it, and is gone with it however it ends", async () => {
  const path = join(folder, 'cni.sock')
  const script = `
    const { takeLock } = await import(${JSON.stringify(new URL('../../../cni/fs/lock.ts', import.meta.url).href)})
    takeLock(process.argv[1])
    process.stdout.write('taken')
    setInterval(() => {}, 1000)`
  child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [said] = await once(child.stdout!, 'data')
  expect(String(said)).toBe('taken')
  const refused = `${path}: a hawser daemon already serves it (process ${child.pid}); stop that one first`
  expect(() => takeLock(path)).toThrow(refused)
  expect(() => takeLock(path)).toThrow(refused)
  child.kill('SIGKILL')
  await once(child, 'exit')
  takeLock(path)()
})

test('a folder that can not be made is named', () => {
  expect(() => takeLock('/proc/hawser/cni.sock')).toThrow(/\/proc\/hawser/)
})
