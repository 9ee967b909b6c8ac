// What a run leaves is found, and what others have is not taken for it.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { must, Running, run } from '../harness/processes.ts'
import { inventory, leftBehind, RUN_VARIABLE } from './leftovers.ts'

/** An id that no process has: the highest that Linux gives is 2^22. */
const NOBODY = 9_999_999
const PATIENCE_MS = 300
const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each()
})

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'hawser-left-'))
  undo.push(() => rmSync(made, { recursive: true, force: true }))
  return made
}

test('nothing is left when nothing is', async () => {
  expect(await leftBehind(inventory(), 'none', folder(), PATIENCE_MS)).toEqual([])
})

test('a folder, a namespace, a process are named', async () => {
  const before = inventory()
  const temporary = folder()
  mkdtempSync(join(temporary, 'hawser-bench-'))
  const namespace = `hwt-${NOBODY}-1`
  await must('ip', ['netns', 'add', namespace])
  undo.push(() => run('ip', ['netns', 'delete', namespace]))
  const mark = `left${process.pid}`
  const env = { ...(process.env as Record<string, string>), [RUN_VARIABLE]: mark }
  const sleeper = new Running('sleep', ['1000'], { env })
  undo.push(() => sleeper.stop('SIGKILL'))
  const left = await leftBehind(before, mark, temporary, PATIENCE_MS)
  expect(left).toContainEqual(expect.stringMatching(/^temporary folder hawser-bench-/))
  expect(left).toContain(`network namespace ${namespace}`)
  expect(left).toContain(`process ${sleeper.child.pid}: sleep 1000`)
})

test('what goes meanwhile is not left', async () => {
  const temporary = folder()
  const inside = mkdtempSync(join(temporary, 'hawser-bench-'))
  const looked = leftBehind(inventory(), 'none', temporary, 60_000)
  rmSync(inside, { recursive: true })
  expect(await looked).toEqual([])
})

test("a namespace of another run's living process is not taken for ours", async () => {
  const before = inventory()
  const namespace = `hwt-${process.pid}-left`
  await must('ip', ['netns', 'add', namespace])
  undo.push(() => run('ip', ['netns', 'delete', namespace]))
  const left = await leftBehind(before, 'none', folder(), PATIENCE_MS)
  expect(left).not.toContain(`network namespace ${namespace}`)
})
