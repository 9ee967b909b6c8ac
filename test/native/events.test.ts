import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'
import { Arena } from './arena.ts'
import { closeTracked, removeNamespaces, track } from './namespace.ts'

const EPOLLIN = 1
const EPOLLET = 0x80000000
const EBADF = 9

let arena: Arena
beforeEach(() => {
  arena = new Arena(4096)
})
afterEach(removeNamespaces)

function codeOf(call: () => unknown): unknown {
  try {
    call()
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  }
  return undefined
}

describe('reserveDescriptors', () => {
  /** Descriptors that the kernel's table takes without growing (proc(5), FDSize). */
  const size = () =>
    Number(/^FDSize:\s+(\d+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1])

  test('makes room in the table, and opens nothing', () => {
    const open = readdirSync('/proc/self/fd').length
    const before = size()
    expect(native.reserveDescriptors(before + 1)).toBe(before + 1)
    expect(size()).toBeGreaterThan(before)
    expect(readdirSync('/proc/self/fd').length).toBe(open)
    expect(native.reserveDescriptors(1)).toBe(1)
  })

  test('no number of descriptors is refused', () => {
    for (const count of [0, -1, 1.5]) {
      expect(() => native.reserveDescriptors(count)).toThrow(/argument count/)
    }
  })
})

describe('eventfd', () => {
  test('counts signals and forgets them when drained', () => {
    const fd = track(native.eventfd())
    expect(native.eventfdDrain(fd)).toBe(0)
    for (let i = 0; i < 3; i++) expect(native.eventfdSignal(fd)).toBe(0)
    expect(native.eventfdDrain(fd)).toBe(3)
    expect(native.eventfdDrain(fd)).toBe(0)
  })

  test('a closed descriptor is an answer to bursts and an error to close', () => {
    const fd = native.eventfd()
    native.close(fd)
    expect(native.eventfdSignal(fd)).toBe(-EBADF)
    expect(native.eventfdDrain(fd)).toBe(-EBADF)
    expect(native.eventfdSignal(-1)).toBe(-EBADF)
    expect(() => native.close(fd)).toThrow(`descriptor ${fd}: Bad file descriptor (it is closed`)
    expect(() => native.close(-1)).toThrow(/argument fd/)
  })
})

describe('epoll', () => {
  test('reports the data words of what is ready, and nothing after a removal', () => {
    const epfd = track(native.epollCreate())
    const [a, b] = [track(native.eventfd()), track(native.eventfd())]
    native.epollAdd(epfd, a, 7, EPOLLIN)
    native.epollAdd(epfd, b, 0xffffffff, EPOLLIN)
    expect(native.epollWait(epfd, 0, 8, 0)).toBe(0)
    native.eventfdSignal(a)
    native.eventfdSignal(b)
    expect(native.epollWait(epfd, 64, 8, -1)).toBe(2)
    expect([...arena.words.slice(16, 18)].sort()).toEqual([0xffffffff, 7])
    expect(native.epollWait(epfd, 64, 1, -1)).toBe(1)
    native.epollRemove(epfd, b)
    expect(native.epollWait(epfd, 0, 8, 0)).toBe(1)
    expect(arena.words[0]).toBe(7)
  })

  test('EPOLLET reports a signal once', () => {
    const epfd = track(native.epollCreate())
    const fd = track(native.eventfd())
    native.epollAdd(epfd, fd, 1, EPOLLIN + EPOLLET)
    native.eventfdSignal(fd)
    expect(native.epollWait(epfd, 0, 1, 0)).toBe(1)
    expect(native.epollWait(epfd, 0, 1, 0)).toBe(0)
    native.eventfdSignal(fd)
    expect(native.epollWait(epfd, 0, 1, 0)).toBe(1)
  })

  test('a timeout is kept', () => {
    const epfd = track(native.epollCreate())
    const start = native.monotonic()
    expect(native.epollWait(epfd, 0, 1, 30)).toBe(0)
    expect(native.monotonic() - start).toBeGreaterThanOrEqual(29e6)
  })

  test('the answer must fit into the arena', () => {
    const epfd = track(native.epollCreate())
    expect(native.epollWait(epfd, 4096 - 4, 1, 0)).toBe(0)
    expect(native.epollWait(epfd, 4096 - 4, 2, 0)).toBe(-14)
    expect(native.epollWait(epfd, 2, 1, 0)).toBe(-14)
    expect(native.epollWait(epfd, 0, 0, 0)).toBe(-22)
    expect(native.epollWait(epfd, 0, 1, -2)).toBe(-22)
  })

  test('mistakes carry their code', () => {
    const epfd = track(native.epollCreate())
    const fd = track(native.eventfd())
    native.epollAdd(epfd, fd, 1, EPOLLIN)
    expect(codeOf(() => native.epollAdd(epfd, fd, 1, EPOLLIN))).toBe('EEXIST')
    native.epollRemove(epfd, fd)
    expect(codeOf(() => native.epollRemove(epfd, fd))).toBe('ENOENT')
    closeTracked(fd)
    expect(codeOf(() => native.epollAdd(epfd, fd, 1, EPOLLIN))).toBe('EBADF')
    expect(native.epollWait(fd, 0, 1, 0)).toBe(-EBADF)
  })

  test('a signal from this thread wakes another that waits for ever', async () => {
    const epfd = track(native.epollCreate())
    const fd = track(native.eventfd())
    native.epollAdd(epfd, fd, 42, EPOLLIN)
    const worker = new Worker(new URL('./waiting.worker.ts', import.meta.url), {
      workerData: { epfd },
    })
    const end = once(worker, 'exit')
    expect((await once(worker, 'message'))[0]).toBe('waiting')
    native.eventfdSignal(fd)
    expect((await once(worker, 'message'))[0]).toEqual({ ready: 1, data: 42 })
    await end
  })
})

describe('waitReadable', () => {
  test('resolves when one of several has something to read, and takes nothing of it', async () => {
    const [first, second] = [track(native.eventfd()), track(native.eventfd())]
    let done = false
    const waiting = native.waitReadable([first, second]).then(() => {
      done = true
    })
    await new Promise(resolve => setImmediate(resolve))
    expect(done).toBe(false)
    native.eventfdSignal(second)
    await waiting
    expect(native.eventfdDrain(second)).toBe(1)
  })

  test('descriptors must be numbers of such', () => {
    expect(() => native.waitReadable([-1])).toThrow(/no descriptor/)
    expect(() => native.waitReadable(['x' as unknown as number])).toThrow(/no descriptor/)
    expect(() => native.waitReadable(3 as unknown as number[])).toThrow(/array/)
  })

  test('a process does not stay for it', async () => {
    const script =
      "const { native } = await import('./native/native.ts'); void native.waitReadable([native.eventfd()])"
    const child = spawn(process.execPath, ['--input-type=module', '-e', script])
    expect(await once(child, 'exit')).toEqual([0, null])
  })
})
