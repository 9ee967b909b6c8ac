/** The queue from both ends: files of the real executable, and folders that somebody meddled with. */

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ABANDONED_MS, drainQueue, MAX_BROKEN, queueFolder } from '../../../cni/rpc/del-queue.ts'
import { encodeCni, encodeMessage, MAX_CNI_BYTES, WORD } from '../../../cni/rpc/protocol.ts'
import type { CniRequest } from '../../../cni/spec/request.ts'
import { plugin, recorder } from '../plugin/hawser-plugin.ts'

const DONE = { exit: 0, stdout: '' }

let folder = ''
let socket = ''
let queue = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-queue-'))
  socket = join(folder, 'cni.sock')
  queue = queueFolder(socket)
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function request(id: string, CNI_COMMAND = 'DEL'): CniRequest {
  return {
    env: {
      CNI_COMMAND,
      CNI_CONTAINERID: id,
      CNI_NETNS: '',
      CNI_IFNAME: 'eth0',
      CNI_ARGS: '',
      CNI_PATH: '/opt/cni/bin',
    },
    config: JSON.stringify({ cniVersion: '1.1.0', name: 'pods', socket }),
  }
}

/** Puts bytes into the queue under the name of a DEL that came at `ms`. */
function put(ms: number, bytes: Uint8Array): string {
  mkdirSync(queue, { recursive: true, mode: 0o700 })
  const name = `${String(ms).padStart(14, '0')}000000-7.del`
  writeFileSync(join(queue, name), bytes)
  return name
}

function message(of: CniRequest, word: number = WORD.CNI): Buffer {
  return encodeMessage(word, encodeCni(of))
}

test('the queue lies beside the socket', () => {
  expect(queueFolder('/run/hawser/cni.sock')).toBe('/run/hawser/queue')
})

test('what the executable queued is done once, oldest first, as it came', async () => {
  const requests = ['one', 'two', 'three'].map(id => request(id))
  for (const { env, config } of requests) {
    expect(await plugin(env, config)).toMatchObject({ code: 0, stdout: '' })
  }
  const done: CniRequest[] = []
  const handle = async (queued: CniRequest, queuedAt: number) => {
    expect(Math.abs(Date.now() - queuedAt)).toBeLessThan(60_000)
    done.push(queued)
    return DONE
  }
  const { log, records } = recorder()
  expect(await drainQueue(socket, handle, log)).toBe(3)
  expect(done).toEqual(requests)
  expect(readdirSync(queue)).toEqual([])
  expect(records.map(({ containerID }) => containerID)).toEqual(['one', 'two', 'three'])
  expect(await drainQueue(socket, handle, log)).toBe(0)
  expect(done).toHaveLength(3)
})

test('the order is that of age', async () => {
  const ages = [1_700_000_000_500, 3, 1_700_000_000_499, 9_999_999_999_999]
  for (const ms of ages) put(ms, message(request(`at-${ms}`)))
  const done: number[] = []
  await drainQueue(
    socket,
    async ({ env }, queuedAt) => {
      expect(env.CNI_CONTAINERID).toBe(`at-${queuedAt}`)
      done.push(queuedAt)
      return DONE
    },
    recorder().log,
  )
  expect(done).toEqual([...ages].sort((a, b) => a - b))
})

test('a DEL that fails stays, and the others are done', async () => {
  const names = [1, 2, 3].map(ms => put(ms, message(request(`at-${ms}`))))
  const { log, records } = recorder()
  let failing = true
  const handle = async ({ env }: CniRequest) => {
    if (failing && env.CNI_CONTAINERID === 'at-1') throw new Error('ipam is away')
    if (failing && env.CNI_CONTAINERID === 'at-2') return { exit: 1, stdout: '{"code":11}' }
    return DONE
  }
  expect(await drainQueue(socket, handle, log)).toBe(1)
  expect(readdirSync(queue).sort()).toEqual(names.slice(0, 2))
  const causes = records.filter(({ level }) => level === 'warn').map(({ cause }) => cause)
  expect(causes).toEqual(['ipam is away', '{"code":11}'])
  failing = false
  expect(await drainQueue(socket, handle, log)).toBe(2)
  expect(readdirSync(queue)).toEqual([])
})

test('a file that is gone when its turn comes is not missed', async () => {
  put(1, message(request('one')))
  const second = put(2, message(request('two')))
  const handle = async () => {
    rmSync(join(queue, second))
    return DONE
  }
  const { log, records } = recorder()
  expect(await drainQueue(socket, handle, log)).toBe(1)
  expect(records.filter(({ level }) => level !== 'info')).toEqual([])
})

describe('what does not belong there', () => {
  const never = async (): Promise<never> => {
    throw new Error('it was called')
  }

  test('no folder is no work', async () => {
    expect(await drainQueue(socket, never, recorder().log)).toBe(0)
  })

  test('a folder that others can write to is not believed', async () => {
    const name = put(1, message(request('one')))
    chmodSync(queue, 0o777)
    const { log, records } = recorder()
    expect(await drainQueue(socket, never, log)).toBe(0)
    expect(records).toEqual([expect.objectContaining({ cause: 'others may write there' })])
    expect(readdirSync(queue)).toEqual([name])
  })

  test('broken files are put aside and logged, and never handled', async () => {
    const good = message(request('good'))
    const broken: [Uint8Array, string][] = [
      [Buffer.alloc(0), 'cut'],
      [Buffer.from('{}'), 'cut'],
      [Buffer.from('{"cniVersion":"1.1.0"}'), 'not our protocol'],
      [good.subarray(0, -1), 'cut'],
      [Buffer.concat([good, good]), 'bytes after the message'],
      [message(request('add', 'ADD')), 'not a DEL'],
      [encodeMessage(WORD.QUERY, Buffer.from('status')), 'not a CNI request'],
      [Buffer.alloc(MAX_CNI_BYTES + 100), 'not our protocol'],
    ]
    const names = broken.map(([bytes], k) => put(k + 1, bytes))
    const last = put(100, good)
    const { log, records } = recorder()
    const done: string[] = []
    const handle = async ({ env }: CniRequest) => {
      done.push(env.CNI_CONTAINERID)
      return DONE
    }
    expect(await drainQueue(socket, handle, log)).toBe(1)
    expect(done).toEqual(['good'])
    expect(existsSync(join(queue, last))).toBe(false)
    expect(readdirSync(queue).sort()).toEqual(names.map(name => `${name}.broken`))
    const causes = records.filter(({ level }) => level === 'error').map(({ cause }) => cause)
    expect(causes).toHaveLength(broken.length)
    for (const [k, [, cause]] of broken.entries()) expect(causes[k]).toContain(cause)
  })

  test('links, folders and devices are put aside, and only so many are kept', async () => {
    put(1, Buffer.alloc(0))
    symlinkSync('/etc/passwd', join(queue, '00000000000002000000-7.del'))
    mkdirSync(join(queue, '00000000000003000000-7.del'))
    for (let ms = 4; ms < 30; ms++) put(ms, Buffer.alloc(1))
    expect(await drainQueue(socket, never, recorder().log)).toBe(0)
    expect(readdirSync(queue)).toHaveLength(MAX_BROKEN)
    expect(readdirSync(queue)).toContain('00000000000002000000-7.del.broken')
    expect(existsSync('/etc/passwd')).toBe(true)
  })

  test('unfinished files go when their writer must be dead; strangers stay', async () => {
    put(1, message(request('one')))
    const old = join(queue, '.tmp-00000000000001000000-7.del')
    const fresh = join(queue, '.tmp-00000000000002000000-7.del')
    for (const file of [old, fresh, join(queue, 'README'), join(queue, '1-7.del')]) {
      writeFileSync(file, '')
    }
    const then = (Date.now() - ABANDONED_MS - 1_000) / 1_000
    utimesSync(old, then, then)
    expect(await drainQueue(socket, async () => DONE, recorder().log)).toBe(1)
    expect(readdirSync(queue).sort()).toEqual(
      ['.tmp-00000000000002000000-7.del', '1-7.del', 'README'].sort(),
    )
  })

  test('random bytes are never more than a broken file', async () => {
    const good = message(request('good'))
    const input = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.tuple(fc.nat(good.length - 1), fc.nat(255)).map(([at, byte]) => {
        const bytes = Buffer.from(good)
        bytes[at] = byte
        return bytes
      }),
    )
    await fc.assert(
      fc.asyncProperty(input, async bytes => {
        rmSync(queue, { recursive: true, force: true })
        const name = put(1, bytes)
        let called = 0
        const handle = async ({ env }: CniRequest) => {
          expect(env.CNI_COMMAND).toBe('DEL')
          called += 1
          return DONE
        }
        expect(await drainQueue(socket, handle, recorder().log)).toBe(called)
        expect(readdirSync(queue)).toEqual(called === 1 ? [] : [`${name}.broken`])
      }),
      { numRuns: 300 },
    )
  })
})
