import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { lock, unlock } from '../../../dataplane/memory/mutex.ts'

const words = (): Int32Array => new Int32Array(new SharedArrayBuffer(16))

test('one at a time, and who does not get it is told so', () => {
  const memory = words()
  expect(lock(memory, 3)).toBe(true)
  expect(lock(memory, 3)).toBe(false)
  unlock(memory, 3)
  expect(lock(memory, 3)).toBe(true)
  expect([...memory.subarray(0, 3)]).toEqual([0, 0, 0])
})

test('threads that change what it guards lose nothing, and see what the others wrote', async () => {
  const memory = words()
  const url = new URL('./mutex.worker.ts', import.meta.url)
  const workerData = { words: memory, rounds: 50_000 }
  const threads = Array.from({ length: 3 }, () => new Worker(url, { workerData }))
  const had = await Promise.all(threads.map(async each => (await once(each, 'message'))[0]))
  expect(memory[1]).toBe(had.reduce((sum: number, each: number) => sum + each, 0))
  expect(memory[1]).toBe(memory[2])
  expect(memory[1]).toBeGreaterThan(50_000)
  expect(memory[0]).toBe(0)
})
