import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'

/** CPUs that this thread may run on, from "Cpus_allowed_list: 0-1,4". */
function allowedCpus(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(
    readFileSync('/proc/thread-self/status', 'utf8'),
  )![1]!
  return list.split(',').flatMap(range => {
    const [first, last = first] = range.split('-').map(Number)
    return Array.from({ length: last! - first! + 1 }, (_, i) => first! + i)
  })
}

interface Answer {
  cpu: number
  pinned: number
  cpus: string
  sum: number
  outside: number
  netns: bigint
}

describe('threads', () => {
  test('two workers have an arena, a CPU and a clock each, while this thread has its own', async () => {
    const cpus = allowedCpus()
    const bytes = new Uint8Array(4096).fill(9)
    native.bind(bytes)
    const mine = native.checksum(0, 4096, 0)
    const arenas = [new SharedArrayBuffer(4096), new SharedArrayBuffer(8192)]
    const workers = arenas.map((arena, i) => {
      new Uint8Array(arena).fill(i + 1)
      const workerData = { arena, cpu: cpus[i % cpus.length] }
      return new Worker(new URL('./arena.worker.ts', import.meta.url), { workerData })
    })
    const ends = workers.map(worker => once(worker, 'exit'))
    const ready = await Promise.all(workers.map(worker => once(worker, 'message')))
    expect(ready).toEqual([['ready'], ['ready']])
    for (const worker of workers) worker.postMessage('go')
    const answers = await Promise.all(
      workers.map(async worker => (await once(worker, 'message'))[0] as Answer),
    )
    const { ino } = native.netnsIdentity('')
    answers.forEach((answer, i) => {
      const cpu = cpus[i % cpus.length]!
      const word = (i + 1) * 257
      const expected = (word * arenas[i]!.byteLength) / 2
      expect(answer).toEqual({
        cpu,
        pinned: 0,
        cpus: `${cpu}`,
        sum: expected % 65535 === 0 ? 65535 : expected % 65535,
        outside: -14,
        netns: ino,
      })
    })
    expect(await Promise.all(ends)).toEqual([[0], [0]])
    // A worker's end frees its arena and nobody else's.
    expect(native.checksum(0, 4096, 0)).toBe(mine)
    expect(allowedCpus()).toEqual(cpus)
  })

  test('a thread may load the addon again and again', async () => {
    for (let i = 0; i < 5; i++) {
      const arena = new SharedArrayBuffer(4096)
      const worker = new Worker(new URL('./arena.worker.ts', import.meta.url), {
        workerData: { arena, cpu: allowedCpus()[0] },
      })
      await once(worker, 'message')
      expect(await worker.terminate()).toBe(1)
    }
  })

  test('a CPU that is not there is refused', () => {
    for (const cpu of [8191, 8192, -1, 2 ** 40]) expect(native.pinThread(cpu), `${cpu}`).toBe(-22)
  })
})

describe('clocks', () => {
  test('the monotonic clock is that of Node', () => {
    const before = Number(process.hrtime.bigint())
    const now = native.monotonic()
    const after = Number(process.hrtime.bigint())
    expect(now).toBeGreaterThanOrEqual(before)
    expect(now).toBeLessThanOrEqual(after)
  })

  test('CPU time grows with work and not with sleep', () => {
    const start = native.threadCpuTime()
    const wall = native.monotonic()
    while (native.threadCpuTime() - start < 5e6);
    expect(native.monotonic() - wall).toBeGreaterThanOrEqual(5e6)
    const awake = native.threadCpuTime()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
    expect(native.threadCpuTime() - awake).toBeLessThan(25e6)
  })
})
