/** What an operator reads when the daemon answers, refuses, or isn't there. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { query } from '../../../cni/rpc/client.ts'
import { collector, encodeMessage, requestLimit, WORD } from '../../../cni/rpc/protocol.ts'
import { serve } from '../../../cni/rpc/server.ts'
import { listener, NOBODY, OTHER_USERS_SERVER, recorder } from '../plugin/hawser-plugin.ts'

let folder = ''
let path = ''
const closing: (() => unknown)[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-client-'))
  path = join(folder, 'cni.sock')
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

async function peer(...bytes: Buffer[]): Promise<void> {
  const server = await listener(path, socket => {
    socket.once('data', () => {
      for (const part of bytes) socket.write(part)
      socket.end()
    })
  })
  closing.push(() => server.close())
}

async function daemon(answer: (name: string) => Promise<unknown>): Promise<void> {
  const cni = async () => ({ exit: 0, stdout: '' })
  const server = await serve(path, { cni, query: answer }, recorder().log)
  closing.push(() => server.close())
}

test('an answer of any kind and size comes back', async () => {
  const answers: Record<string, unknown> = {
    status: { ready: true, notes: ['ü'] },
    nothing: null,
    none: undefined,
    large: Array.from({ length: 200_000 }, (_, k) => ({ prefix: `10.0.0.0/${k}` })),
  }
  await daemon(async name => answers[name])
  expect(await query(path, 'status')).toEqual(answers['status'])
  expect(await query(path, 'nothing')).toBeNull()
  expect(await query(path, 'none')).toBeNull()
  expect(await query(path, 'large')).toEqual(answers['large'])
})

test('a refusal is in the words of the daemon', async () => {
  await daemon(async name => {
    throw new Error(`${name}: no such question`)
  })
  await expect(query(path, 'weather')).rejects.toThrow(/^weather: no such question$/)
})

test('what is asked is one message', async () => {
  let asked: string | undefined
  const collect = collector(requestLimit)
  const server = await listener(path, socket =>
    socket.on('data', chunk => {
      const message = collect(chunk as Buffer)
      asked = message?.body.toString()
      socket.end(encodeMessage(WORD.SUCCESS, Buffer.from('1')))
    }),
  )
  closing.push(() => server.close())
  expect(await query(path, 'drops')).toBe(1)
  expect(asked).toBe('drops')
})

test('without a daemon the socket, the cause and a remedy are named', async () => {
  await expect(query(path, 'status')).rejects.toThrow(
    `${path}: no such socket (is the daemon running?)`,
  )
  const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', script, path])
  await expect(query(path, 'status')).rejects.toThrow(
    `${path}: nobody answers (is the daemon running?)`,
  )
  rmSync(path)
  writeFileSync(path, '')
  await expect(query(path, 'status')).rejects.toThrow(`${path}: nobody answers`)
})

const otherVersion = encodeMessage(WORD.SUCCESS, Buffer.from('1'))
otherVersion[3] = 9
const tooLong = encodeMessage(WORD.SUCCESS, Buffer.from('1'))
tooLong.writeUInt32BE(0xffffffff, 8)

test.each<[string, Buffer[], string]>([
  ['hangs up', [], 'the daemon hung up'],
  ['hangs up within its answer', [Buffer.from([0x68, 0x77])], 'the daemon hung up'],
  ['says garbage', [Buffer.from('SSH-2.0-OpenSSH_9.2')], 'it is not our protocol'],
  [
    'is of another version',
    [otherVersion],
    'version 9 of the protocol, we speak 1, 2 (install both',
  ],
  ['answers too much', [tooLong], '4294967295 bytes, more than'],
  ['says an unknown word', [encodeMessage(5, Buffer.alloc(0))], 'unknown word 5'],
  ['answers no JSON', [encodeMessage(0, Buffer.from('{'))], "the daemon's answer is not JSON"],
  ['answers no text', [encodeMessage(0, Buffer.from([0xff]))], 'not UTF-8 text'],
])('a daemon that %s', async (_, bytes, cause) => {
  await peer(...bytes)
  const error = await query(path, 'status').catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(Error)
  expect((error as Error).message).toContain(`${path}: `)
  expect((error as Error).message).toContain(cause)
})

test('an answer that does not come is given up', async () => {
  const server = await listener(path, socket => socket.resume())
  closing.push(() => server.close())
  await expect(query(path, 'status', 30)).rejects.toThrow(`${path}: no answer within 30 ms`)
})

test('a server of another user is told nothing', async () => {
  const theirs = join(folder, 'theirs')
  mkdirSync(theirs)
  chownSync(theirs, NOBODY, NOBODY)
  chmodSync(folder, 0o755)
  path = join(theirs, 'cni.sock')
  const server = spawn(process.execPath, ['-e', OTHER_USERS_SERVER, path], {
    uid: NOBODY,
    gid: NOBODY,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  closing.push(async () => {
    const ended = once(server, 'close')
    server.stdin.end()
    await ended
  })
  await once(server.stdout, 'data')
  await expect(query(path, 'status')).rejects.toThrow(
    `${path}: it is served by user ${NOBODY}, not by root`,
  )
})
