/**
 * The daemon's end of the socket: who is let in, what hostile bytes do, how it closes. Long, because all
 * of it is asked of one server.
 */

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { query } from '../../../cni/rpc/client.ts'
import {
  collector,
  encodeCni,
  encodeMessage,
  HEADER_BYTES,
  MAX_CNI_BYTES,
  MAX_CNI_REPLY_BYTES,
  MAX_QUERY_BYTES,
  MAX_VARIABLE_BYTES,
  type Message,
  NEWEST,
  ProtocolError,
  queryReplyLimit,
  WORD,
} from '../../../cni/rpc/protocol.ts'
import { type Handlers, type Limits, serve } from '../../../cni/rpc/server.ts'
import { CniError, CODE } from '../../../cni/spec/errors.ts'
import { type CniRequest, MAX_STDERR_BYTES } from '../../../cni/spec/request.ts'
import { finished, listener, NOBODY, recorder } from '../plugin/hawser-plugin.ts'

const REQUEST: CniRequest = {
  env: {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/run/netns/a',
    CNI_IFNAME: 'eth0',
    CNI_ARGS: '',
    CNI_PATH: '/opt/cni/bin',
  },
  config: '{"cniVersion":"0.4.0","name":"pods"}',
}

let folder = ''
let path = ''
const closing: (() => unknown)[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-server-'))
  path = join(folder, 'cni.sock')
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

async function started(handlers: Partial<Handlers> = {}, limits: Limits = {}) {
  const { log, records } = recorder()
  const all: Handlers = {
    cni: async () => ({ exit: 0, stdout: '' }),
    query: async name => ({ name }),
    ...handlers,
  }
  const server = await serve(path, all, log, limits)
  closing.push(() => server.close())
  return { server, records }
}

async function connected(): Promise<Socket> {
  const socket = createConnection({ path })
  socket.on('error', () => {})
  closing.push(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

/** All that comes until the server hangs up. */
async function heard(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', chunk => chunks.push(chunk as Buffer))
  await new Promise(resolve => socket.on('close', resolve))
  return Buffer.concat(chunks)
}

async function say(bytes: Uint8Array): Promise<Buffer> {
  const socket = await connected()
  socket.write(bytes)
  return heard(socket)
}

function message(bytes: Buffer): { word: number; text: string } {
  const { word, body } = collector(queryReplyLimit)(bytes) as Message
  return { word, text: body.toString() }
}

async function cni(request: CniRequest = REQUEST): Promise<{ word: number; text: string }> {
  return message(await say(encodeMessage(WORD.CNI, encodeCni(request))))
}

describe('the place', () => {
  test('a folder that is made is 0700, the socket 0600', async () => {
    path = join(folder, 'a', 'b', 'cni.sock')
    await started()
    expect(statSync(join(folder, 'a')).mode & 0o777).toBe(0o700)
    expect(statSync(join(folder, 'a', 'b')).mode & 0o777).toBe(0o700)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(statSync(path).uid).toBe(0)
  })

  test('a folder that others can write to is refused', async () => {
    for (const mode of [0o770, 0o707, 0o1777]) {
      chmodSync(folder, mode)
      await expect(started()).rejects.toThrow(`${folder}: others may write there: chmod 0700 it`)
    }
    chmodSync(folder, 0o755)
    await started()
  })

  test("a folder or a socket of another user's is refused", async () => {
    chownSync(folder, NOBODY, NOBODY)
    await expect(started()).rejects.toThrow(`${folder}: it belongs to user ${NOBODY}`)
    chownSync(folder, 0, 0)
    stale()
    chownSync(path, NOBODY, NOBODY)
    await expect(started()).rejects.toThrow(`${path}: it belongs to user ${NOBODY}`)
    expect(existsSync(path)).toBe(true)
  })

  test('what a dead daemon left is replaced', async () => {
    stale()
    await started()
    expect(await query(path, 'status')).toEqual({ name: 'status' })
  })

  test('what is no socket stays', async () => {
    const makers = [
      () => writeFileSync(path, 'x'),
      () => mkdirSync(path),
      () => symlinkSync('/x', path),
    ]
    for (const make of makers) {
      make()
      await expect(started()).rejects.toThrow(`${path}: it is there and not a socket`)
      rmSync(path, { recursive: true })
    }
  })

  test('a socket in use is left alone', async () => {
    const other = await listener(path, socket => socket.destroy())
    closing.push(() => other.close())
    await expect(started()).rejects.toThrow(`${path}: another process serves it`)
    expect(existsSync(path)).toBe(true)
  })

  function stale(): void {
    const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
    spawnSync(process.execPath, ['-e', script, path])
    expect(statSync(path).isSocket()).toBe(true)
  }
})

describe('answers', () => {
  test('a CNI request reaches its handler whole, in pieces of any size', async () => {
    const seen: CniRequest[] = []
    const request = { ...REQUEST, config: `{"ü":"${'x'.repeat(100)}"}` }
    await started({
      cni: async got => {
        seen.push(got)
        return { exit: 0, stdout: '{"ü":1}' }
      },
    })
    const bytes = encodeMessage(WORD.CNI, encodeCni(request))
    for (const size of [1, 5, HEADER_BYTES, bytes.length]) {
      const socket = await connected()
      for (let at = 0; at < bytes.length; at += size) socket.write(bytes.subarray(at, at + size))
      expect(message(await heard(socket))).toEqual({ word: WORD.SUCCESS, text: '{"ü":1}' })
    }
    expect(seen).toEqual([request, request, request, request])
  })

  test('what a handler throws becomes an error in the version that was asked for', async () => {
    let thrown: unknown
    const { records } = await started({
      cni: () => {
        throw thrown
      },
    })
    thrown = new CniError(CODE.config, 'name: no', 'give it one')
    const known = { cniVersion: '0.4.0', code: 7, msg: 'name: no', details: 'give it one' }
    const answer = await cni()
    expect(answer.word).toBe(WORD.ERROR)
    expect(JSON.parse(answer.text)).toEqual(known)
    thrown = new TypeError('x is not a function')
    const bug = { cniVersion: '1.1.0', code: 100, msg: 'x is not a function', details: '' }
    for (const config of ['', 'null', '{"cniVersion":"9"}', '{"cniVersion":{}}']) {
      expect(JSON.parse((await cni({ ...REQUEST, config })).text)).toEqual(bug)
    }
    expect(records.filter(({ msg }) => msg === 'a CNI request failed')).toHaveLength(5)
  })

  test('an answer that is too long becomes an error', async () => {
    await started({ cni: async () => ({ exit: 0, stdout: 'x'.repeat(MAX_CNI_REPLY_BYTES + 1) }) })
    const { word, text } = await cni()
    expect(word).toBe(WORD.ERROR)
    expect(JSON.parse(text)).toMatchObject({ cniVersion: '0.4.0', code: CODE.internal })
  })

  test('are in the version of the request, which may have no place for stderr', async () => {
    let stderr: string | undefined
    await started({ cni: async () => ({ exit: 1, stdout: '{}', ...(stderr && { stderr }) }) })
    const asked = async (version: 1 | 2): Promise<Message> => {
      const bytes = await say(encodeMessage(WORD.CNI, encodeCni(REQUEST), version))
      return collector(queryReplyLimit)(bytes) as Message
    }
    const expected = (version: 1 | 2, body: string): void =>
      void expect(answer).toEqual({ version, word: WORD.ERROR, body: Buffer.from(body) })
    let answer = await asked(2)
    expected(2, '\0\0\0\0{}')
    stderr = 'é\n'
    answer = await asked(2)
    expected(2, '\0\0\0\x03é\n{}')
    answer = await asked(1)
    expected(1, '{}')
    stderr = 'x'.repeat(MAX_STDERR_BYTES + 1)
    answer = await asked(2)
    expected(2, `\0\0\x40\0${'x'.repeat(MAX_STDERR_BYTES)}{}`)
  })

  test('connections beyond those that are served wait, and are served in order', async () => {
    const order: string[] = []
    const gates: (() => void)[] = []
    let reached = (): void => {}
    const { records } = await started(
      {
        cni: async ({ env }) => {
          order.push(env.CNI_CONTAINERID)
          reached()
          await new Promise<void>(resolve => gates.push(resolve))
          return { exit: 0, stdout: '' }
        },
      },
      { served: 1, waiting: 3 },
    )
    const answers: Promise<Buffer>[] = []
    const first = new Promise<void>(resolve => {
      reached = resolve
    })
    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      const socket = await connected()
      const request = { ...REQUEST, env: { ...REQUEST.env, CNI_CONTAINERID: id } }
      socket.write(encodeMessage(WORD.CNI, encodeCni(request)))
      answers.push(heard(socket))
    }
    expect(await answers[4]).toHaveLength(0)
    expect(records).toContainEqual(expect.objectContaining({ msg: 'a connection was turned away' }))
    await first
    for (const k of [0, 1, 2, 3]) {
      const next = new Promise<void>(resolve => {
        reached = resolve
      })
      gates[k]!()
      expect(message((await answers[k])!).word).toBe(WORD.SUCCESS)
      if (k < 3) await next
    }
    expect(order).toEqual(['a', 'b', 'c', 'd'])
  })
})

describe('hostile peers', () => {
  test('a user other than root is refused, even where the file lets it in', async () => {
    const { records } = await started()
    chmodSync(folder, 0o755)
    chmodSync(path, 0o666)
    const script = `
      const socket = require('node:net').createConnection(process.argv[1])
      socket.on('error', () => {})
      socket.on('connect', () => socket.write(Buffer.from(process.argv[2], 'hex')))
      let bytes = 0
      socket.on('data', chunk => { bytes += chunk.length })
      socket.on('close', () => process.stdout.write(String(bytes)))`
    const hex = encodeMessage(WORD.QUERY, Buffer.from('status')).toString('hex')
    const as = (uid: number) =>
      finished(
        spawn(process.execPath, ['-e', script, path, hex], {
          uid,
          gid: uid,
          stdio: ['ignore', 'pipe', 'pipe'],
        }),
      )
    expect(await as(NOBODY)).toMatchObject({ code: 0, stdout: '0' })
    expect(records).toContainEqual(
      expect.objectContaining({ uid: NOBODY, msg: expect.stringContaining('was refused') }),
    )
    expect(Number((await as(0)).stdout)).toBeGreaterThan(HEADER_BYTES)
  })

  test('broken messages end the connection without an answer, and are logged', async () => {
    const { records } = await started({
      cni: async () => {
        throw new Error('it was called')
      },
    })
    const good = encodeCni(REQUEST)
    const changed = (change: (bytes: Buffer) => void): Buffer => {
      const bytes = Buffer.from(good)
      change(bytes)
      return encodeMessage(WORD.CNI, bytes)
    }
    const long = encodeMessage(WORD.CNI, good)
    long.writeUInt32BE(MAX_CNI_BYTES + 1, 8)
    const cases: [Uint8Array, string][] = [
      [Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'not our protocol'],
      [encodeMessage(3, good), 'unknown word 3'],
      [long, 'more than'],
      [Buffer.concat([encodeMessage(WORD.CNI, good), good]), 'bytes after the message'],
      [encodeMessage(WORD.CNI, good.subarray(0, -1)), 'configuration: cut'],
      [encodeMessage(WORD.CNI, Buffer.concat([good, good])), 'bytes after the configuration'],
      [encodeMessage(WORD.CNI, Buffer.alloc(0)), 'CNI_COMMAND: cut'],
      [changed(bytes => bytes.writeUInt32BE(0xffffffff, 0)), 'CNI_COMMAND: 4294967295 bytes'],
      [changed(bytes => bytes.writeUInt32BE(MAX_VARIABLE_BYTES, 0)), 'CNI_COMMAND: cut'],
      [changed(bytes => bytes.fill(0, 4, 5)), 'CNI_COMMAND: holds a zero byte'],
      [changed(bytes => bytes.fill(0xff, 4, 5)), 'CNI_COMMAND: not UTF-8'],
      [
        encodeMessage(WORD.QUERY, Buffer.alloc(MAX_QUERY_BYTES + 1)),
        `more than ${MAX_QUERY_BYTES}`,
      ],
    ]
    for (const [bytes, cause] of cases) {
      expect(await say(bytes)).toHaveLength(0)
      expect(records.at(-1)?.['cause']).toContain(cause)
    }
  })

  test('another version is told ours', async () => {
    await started()
    const other = encodeMessage(WORD.CNI, encodeCni(REQUEST))
    for (const version of [0, NEWEST + 1, 255]) {
      other[3] = version
      const told = collector(queryReplyLimit)(await say(other))
      expect(told).toEqual({ version: NEWEST, word: WORD.ERROR, body: Buffer.alloc(0) })
    }
  })

  test('a request that does not come in time ends the connection', async () => {
    const { records } = await started({}, { requestMs: 30 })
    expect(await heard(await connected())).toHaveLength(0)
    expect(await say(encodeMessage(WORD.CNI, encodeCni(REQUEST)).subarray(0, 20))).toHaveLength(0)
    expect(records.map(({ cause }) => cause)).toEqual([
      'no request within 30 ms',
      'no request within 30 ms',
    ])
  })

  test('an answer that nobody takes ends the connection', async () => {
    await started({ query: async () => 'x'.repeat(8 * 1024 * 1024) }, { replyMs: 1000, served: 1 })
    const lazy = await connected()
    lazy.pause()
    lazy.write(encodeMessage(WORD.QUERY, Buffer.from('status')))
    expect(await query(path, 'status')).toHaveLength(8 * 1024 * 1024)
  })

  test('a peer that goes away while it is served harms nobody', async () => {
    let open = (): void => {}
    let reached = (): void => {}
    const called = new Promise<void>(resolve => {
      reached = resolve
    })
    const gate = new Promise<void>(resolve => {
      open = resolve
    })
    await started({
      cni: async () => {
        reached()
        await gate
        return { exit: 0, stdout: '{}' }
      },
    })
    const gone = await connected()
    gone.write(encodeMessage(WORD.CNI, encodeCni(REQUEST)))
    await called
    gone.destroy()
    await once(gone, 'close')
    open()
    expect(await query(path, 'x')).toEqual({ name: 'x' })
  })

  test('random bytes never harm it', async () => {
    await started()
    const good = encodeMessage(WORD.CNI, encodeCni(REQUEST))
    const nearly = fc
      .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
      .map(changes => {
        const bytes = Buffer.from(good)
        for (const [at, byte] of changes) bytes[at] = byte
        return bytes
      })
    const input = fc.oneof(nearly, fc.uint8Array({ maxLength: 100 }))
    await fc.assert(
      fc.asyncProperty(input, async bytes => {
        const socket = await connected()
        socket.end(bytes)
        const answer = await heard(socket)
        if (answer.length > 0) message(answer)
      }),
      { numRuns: 500 },
    )
    expect(await query(path, 'alive')).toEqual({ name: 'alive' })
  })

  test('the collector gives a message or a ProtocolError, however the bytes are cut', () => {
    const good = encodeMessage(WORD.QUERY, Buffer.from('status'))
    const input = fc.record({
      at: fc.nat(good.length - 1),
      byte: fc.nat(255),
      cuts: fc.array(fc.nat(good.length)),
      more: fc.uint8Array({ maxLength: 3 }),
    })
    fc.assert(
      fc.property(input, ({ at, byte, cuts, more }) => {
        const bytes = Buffer.concat([good, more])
        bytes[at] = byte
        const collect = collector(word => (word === WORD.QUERY ? 6 : undefined))
        let found: Message | undefined
        try {
          let from = 0
          for (const to of [...cuts.sort((a, b) => a - b), bytes.length]) {
            found = collect(bytes.subarray(from, to)) ?? found
            from = to
          }
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError)
          return
        }
        // Without an error it was a whole message, or the header now asks for more than there is.
        if (found === undefined) return expect(bytes.readUInt32BE(8)).toBeGreaterThan(6)
        expect(found.body).toEqual(bytes.subarray(HEADER_BYTES))
      }),
    )
  })
})

describe('closing', () => {
  test('removes the socket, answers what is under way and lets go what waits', async () => {
    let open = (): void => {}
    let reached = (): void => {}
    const called = new Promise<void>(resolve => {
      reached = resolve
    })
    const { server } = await started(
      {
        cni: () => {
          reached()
          return new Promise(resolve => {
            open = () => resolve({ exit: 0, stdout: '{"late":true}' })
          })
        },
      },
      { served: 1 },
    )
    const underWay = cni()
    await called
    const waiting = await connected()
    waiting.write(encodeMessage(WORD.QUERY, Buffer.from('status')))
    const told = heard(waiting)
    const closed = server.close()
    expect(existsSync(path)).toBe(false)
    await expect(query(path, 'status')).rejects.toThrow('is the daemon running?')
    expect(await told).toHaveLength(0)
    open()
    expect(await underWay).toEqual({ word: WORD.SUCCESS, text: '{"late":true}' })
    await closed
    await server.close()
  })

  test('is bounded', async () => {
    let reached = (): void => {}
    const called = new Promise<void>(resolve => {
      reached = resolve
    })
    const { server, records } = await started(
      {
        cni: () => {
          reached()
          return new Promise(() => {})
        },
      },
      { closeMs: 30 },
    )
    const never = say(encodeMessage(WORD.CNI, encodeCni(REQUEST)))
    await called
    await server.close()
    expect(await never).toHaveLength(0)
    expect(records.at(-1)).toMatchObject({ requests: 1 })
    await started()
  })
})
