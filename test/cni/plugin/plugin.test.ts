/**
 * The executable as a runtime sees it: the real file, started with an environment and stdin, against
 * the real server, against peers that misbehave, and against nobody at all. Long, because all cases
 * share that one server and the ways to break it.
 */

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import type { Server, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  collector,
  decodeCni,
  encodeCniReply,
  encodeMessage,
  MAX_CNI_REPLY_BYTES,
  MAX_CONFIG_BYTES,
  MAX_VARIABLE_BYTES,
  requestLimit,
  WORD,
} from '../../../cni/rpc/protocol.ts'
import { type Handlers, type Limits, serve } from '../../../cni/rpc/server.ts'
import { CODE } from '../../../cni/spec/errors.ts'
import { type CniRequest, MAX_STDERR_BYTES } from '../../../cni/spec/request.ts'
import { CNI_VERSIONS } from '../../../cni/spec/versions.ts'
import {
  type Ended,
  EXECUTABLE,
  HASTY,
  listener,
  NOBODY,
  OTHER_USERS_SERVER,
  POD,
  plugin,
  recorder,
  silent,
} from './hawser-plugin.ts'

const RESULT = '{"cniVersion":"1.1.0","interfaces":[],"ips":[]}'
/** What libcni sends with GC and STATUS. */
const EMPTY = { CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '', CNI_ARGS: '', CNI_PATH: '' }

let folder = ''
let socket = ''
const closing: (() => unknown)[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-plugin-'))
  socket = join(folder, 'cni.sock')
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

function config(more: object = {}): string {
  return JSON.stringify({ cniVersion: '1.1.0', name: 'pods', type: 'hawser', socket, ...more })
}

async function daemon(cni: Handlers['cni'], limits: Limits = {}): Promise<CniRequest[]> {
  const seen: CniRequest[] = []
  const handlers: Handlers = {
    cni: request => {
      seen.push(request)
      return cni(request)
    },
    query: async name => name,
  }
  const server = await serve(socket, handlers, recorder().log, limits)
  closing.push(() => server.close())
  return seen
}

async function peer(talk: (socket: Socket) => void): Promise<Server> {
  const server = await listener(socket, talk)
  closing.push(() => new Promise(resolve => server.close(resolve)))
  return server
}

/** The one JSON error on stdout, after checking that it is one and that the exit code says so. */
function failure(ended: Ended): { code: number; msg: string; cniVersion: string; details: string } {
  expect(ended.signal).toBeNull()
  expect(ended.code).toBe(1)
  const error = JSON.parse(ended.stdout)
  expect(Object.keys(error)).toEqual(['cniVersion', 'code', 'msg', 'details'])
  return error
}

function queue(): string[] {
  return readdirSync(join(folder, 'queue'))
}

describe('VERSION', () => {
  const answer = (cniVersion: string) => ({ cniVersion, supportedVersions: [...CNI_VERSIONS] })

  test.each([
    ['nothing', '', '1.1.0'],
    ['white space', ' \r\n\t', '1.1.0'],
    ['an object without a version', '{}', '1.1.0'],
    ['only a version', '{"cniVersion":"0.3.1"}', '0.3.1'],
    ['an escaped version', '{"cniVersion":"\\u0031.0.0"}', '1.0.0'],
    ['a version of the future', '{"cniVersion":"9.0.0"}', '1.1.0'],
    ['two versions', '{"cniVersion":"9.0.0","cniVersion":"0.4.0"}', '0.4.0'],
    ['a version inside', '{"prevResult":{"cniVersion":"0.4.0"}}', '1.1.0'],
  ])('with %s on stdin', async (_, stdin, version) => {
    const ended = await plugin({ CNI_COMMAND: 'VERSION' }, stdin)
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' })
    expect(JSON.parse(ended.stdout)).toEqual(answer(version))
  })

  test('broken or endless stdin is a decode error', async () => {
    for (const stdin of ['{', '[]', '{} {}', ' '.repeat(MAX_CONFIG_BYTES + 1)]) {
      expect(failure(await plugin({ CNI_COMMAND: 'VERSION' }, stdin)).code).toBe(CODE.decode)
    }
  })

  test('other variables do not matter', async () => {
    const ended = await plugin({ CNI_COMMAND: 'VERSION', CNI_IFNAME: '/' }, '')
    expect(JSON.parse(ended.stdout)).toEqual(answer('1.1.0'))
  })
})

test('without a command it says what it is', async () => {
  for (const env of [{}, { CNI_COMMAND: '' }]) {
    const ended = await plugin(env as Record<string, string>, config())
    silent(ended)
    for (const version of CNI_VERSIONS) expect(ended.stderr).toContain(version)
    expect(ended.stderr.trim().split('\n')).toHaveLength(1)
  }
})

describe('the environment', () => {
  const required = {
    ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
    CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
    DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  }

  test.each(Object.entries(required))('%s needs its variables', async (verb, names) => {
    for (const name of names) {
      const { [name as keyof typeof POD]: _, ...rest } = POD
      for (const env of [rest, { ...rest, [name]: '' }]) {
        const error = failure(await plugin({ ...env, CNI_COMMAND: verb }, config()))
        expect(error).toMatchObject({ code: CODE.environment, msg: `${name}: missing` })
      }
    }
    const error = failure(await plugin({ CNI_COMMAND: verb }, config()))
    expect(error.msg).toBe(`${names.join(', ')}: missing`)
  })

  test.each([
    ['CNI_CONTAINERID', '-a'],
    ['CNI_CONTAINERID', '.'],
    ['CNI_CONTAINERID', 'a/b'],
    ['CNI_CONTAINERID', 'a b'],
    ['CNI_CONTAINERID', 'ä'],
    ['CNI_CONTAINERID', 'a'.repeat(201)],
    ['CNI_IFNAME', '.'],
    ['CNI_IFNAME', '..'],
    ['CNI_IFNAME', 'a/b'],
    ['CNI_IFNAME', 'a:b'],
    ['CNI_IFNAME', 'a b'],
    ['CNI_IFNAME', 'a\tb'],
    ['CNI_IFNAME', 'sixteen-letters-'],
  ])('%s=%j is refused', async (name, value) => {
    for (const verb of ['ADD', 'DEL', 'CHECK']) {
      const ended = await plugin({ ...POD, CNI_COMMAND: verb, [name]: value }, config())
      const error = failure(ended)
      expect(error.code).toBe(CODE.environment)
      expect(error.msg).toContain(name)
    }
  })

  test('a variable without end is refused', async () => {
    const CNI_ARGS = 'a'.repeat(MAX_VARIABLE_BYTES + 1)
    const error = failure(await plugin({ ...POD, CNI_COMMAND: 'ADD', CNI_ARGS }, config()))
    expect(error.code).toBe(CODE.environment)
    expect(error.msg).toContain('CNI_ARGS: longer than')
  })

  test('bytes that are not UTF-8 are refused', () => {
    // Node can't give a child such a variable.
    const script =
      "import os, sys; os.execve(sys.argv[1], ['hawser'], {**os.environb, b'CNI_ARGS': b'a\\xff'})"
    const ended = spawnSync('python3', ['-c', script, EXECUTABLE], {
      env: { ...POD, CNI_COMMAND: 'ADD', PATH: process.env['PATH'] },
      input: config(),
      encoding: 'utf8',
    })
    expect(ended.status).toBe(1)
    expect(JSON.parse(ended.stdout)).toMatchObject({ code: 4, msg: 'CNI_ARGS: not UTF-8 text' })
  })

  test.each(['add', 'UPDATE', ' ADD', '"\\\n'])('%j is not a verb', async verb => {
    for (const stdin of ['', config(), config({ cniVersion: '0.4.0' })]) {
      const error = failure(await plugin({ ...POD, CNI_COMMAND: verb }, stdin))
      expect(error.code).toBe(CODE.environment)
      expect(error.cniVersion).toBe(stdin.includes('0.4.0') ? '0.4.0' : '1.1.0')
    }
  })
})

describe('the configuration', () => {
  const add = (stdin: string | Buffer) => plugin({ ...POD, CNI_COMMAND: 'ADD' }, stdin)

  test('broken JSON is a decode error', async () => {
    const broken = ['', ' ', '{', 'null', '"x"', '[]', '{}x', '{"a":1,}', "{'a':1}", '{"a":01}']
    for (const stdin of broken) expect(failure(await add(stdin)).code).toBe(CODE.decode)
    expect(failure(await add(Buffer.from('{"name":"\xff"}', 'latin1'))).code).toBe(CODE.decode)
    expect(failure(await add(config({ cniVersion: 1 }))).code).toBe(CODE.decode)
    expect(failure(await add(config({ more: 'x'.repeat(MAX_CONFIG_BYTES) }))).code).toBe(6)
  })

  test('deep nesting is bounded', async () => {
    const nested = (depth: number) => `{"a":${'['.repeat(depth)}${']'.repeat(depth)},"name":""}`
    expect(failure(await add(nested(127))).code).toBe(CODE.config)
    expect(failure(await add(nested(129))).msg).toContain('nested too deeply')
    expect(failure(await add('['.repeat(MAX_CONFIG_BYTES))).code).toBe(CODE.decode)
    expect(failure(await add(`{"a":${'['.repeat(900_000)}`)).msg).toContain('nested too deeply')
  })

  test('versions', async () => {
    expect(failure(await add(config({ cniVersion: '2.0.0' })))).toMatchObject({
      code: CODE.version,
      cniVersion: '1.1.0',
      msg: 'cniVersion: "2.0.0" is not supported',
    })
    const since = [
      ['CHECK', '0.3.1'],
      ['GC', '1.0.0'],
      ['STATUS', '1.0.0'],
      ['STATUS', undefined],
    ] as const
    for (const [verb, cniVersion] of since) {
      const error = failure(await plugin({ ...POD, CNI_COMMAND: verb }, config({ cniVersion })))
      expect(error).toMatchObject({ code: CODE.version, cniVersion: cniVersion ?? '0.1.0' })
      expect(error.msg).toContain(`has no ${verb}`)
    }
  })

  test.each([undefined, null, '', 7, 'a b', '-a', 'a/b', 'a'.repeat(201)])(
    'the name %j is refused',
    async name => {
      const error = failure(await add(config({ name, cniVersion: '0.4.0' })))
      expect(error).toMatchObject({ code: CODE.config, cniVersion: '0.4.0' })
      expect(error.msg).toContain('name: ')
    },
  )

  test.each([7, '', '/', 'cni.sock', './cni.sock', '/run/', '/a\u0000b', `/${'a'.repeat(107)}`])(
    'the socket %j is refused',
    async path => {
      const error = failure(await add(config({ socket: path })))
      expect(error.code).toBe(CODE.config)
      expect(error.msg).toContain('socket: ')
    },
  )

  test('errors are escaped', async () => {
    const error = failure(await add(config({ name: '"\\\u0000\u001f\u007f\ud83d\ude00é' })))
    expect(error.msg).toContain('\\"\\\\\\u0000\\u001f\\u007f\u{1f600}é')
  })
})

describe('with a daemon', () => {
  test('every verb reaches it as it came, and its answer is printed as it is', async () => {
    const seen = await daemon(async request =>
      request.env.CNI_COMMAND === 'ADD' ? { exit: 0, stdout: RESULT } : { exit: 0, stdout: '' },
    )
    const stdin = ` ${config({ 'io.kubernetes.cri.pod-annotations': { ü: '\n' } })}\n`
    const added = await plugin({ ...POD, CNI_COMMAND: 'ADD' }, stdin)
    expect(added).toEqual({ code: 0, signal: null, stdout: RESULT, stderr: '' })
    silent(await plugin({ ...POD, CNI_COMMAND: 'CHECK' }, stdin))
    const { CNI_NETNS: _, ...withoutNetns } = POD
    silent(await plugin({ ...withoutNetns, CNI_COMMAND: 'DEL' }, stdin))
    silent(await plugin({ ...EMPTY, CNI_COMMAND: 'GC' }, stdin))
    silent(await plugin({ ...EMPTY, CNI_COMMAND: 'STATUS' }, stdin))
    silent(await plugin({ CNI_COMMAND: 'STATUS' }, stdin))
    expect(seen).toEqual([
      { env: { ...POD, CNI_COMMAND: 'ADD' }, config: stdin },
      { env: { ...POD, CNI_COMMAND: 'CHECK' }, config: stdin },
      { env: { ...POD, CNI_COMMAND: 'DEL', CNI_NETNS: '' }, config: stdin },
      { env: { ...EMPTY, CNI_COMMAND: 'GC' }, config: stdin },
      { env: { ...EMPTY, CNI_COMMAND: 'STATUS' }, config: stdin },
      { env: { ...EMPTY, CNI_COMMAND: 'STATUS' }, config: stdin },
    ])
  })

  test('the largest configuration and answer pass', async () => {
    const room = MAX_CONFIG_BYTES - config({ more: '' }).length
    const long = `{"more":"${'y'.repeat(MAX_CNI_REPLY_BYTES - 11)}"}`
    expect(long).toHaveLength(MAX_CNI_REPLY_BYTES)
    const seen = await daemon(async () => ({ exit: 0, stdout: long }))
    const stdin = config({ more: 'x'.repeat(room) })
    const ended = await plugin({ ...POD, CNI_COMMAND: 'ADD' }, stdin)
    expect(ended.code).toBe(0)
    expect(ended.stdout === long).toBe(true)
    expect(seen[0]!.config === stdin).toBe(true)
  })

  test("its errors are printed and make the exit code, a DEL's too", async () => {
    const stdout = '{"cniVersion":"1.1.0","code":7,"msg":"no","details":""}'
    await daemon(async () => ({ exit: 1, stdout }))
    for (const CNI_COMMAND of ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS']) {
      const ended = await plugin({ ...POD, CNI_COMMAND }, config())
      expect(ended).toEqual({ code: 1, signal: null, stdout, stderr: '' })
    }
    expect(readdirSync(folder)).toEqual(['cni.sock'])
  })

  test('what a plugin of others said comes out of stderr, whatever the answer', async () => {
    const said = `${'y'.repeat(MAX_STDERR_BYTES - 1)}\n`
    const error = '{"cniVersion":"1.1.0","code":7,"msg":"no","details":""}'
    const cni = async ({ env }: CniRequest) =>
      env.CNI_COMMAND === 'ADD'
        ? { exit: 0, stdout: RESULT, stderr: said }
        : { exit: 1, stdout: error, stderr: 'one\ntwo\n' }
    await daemon(cni)
    const added = await plugin({ ...POD, CNI_COMMAND: 'ADD' }, config())
    expect(added).toEqual({ code: 0, signal: null, stdout: RESULT, stderr: said })
    const ended = await plugin({ ...POD, CNI_COMMAND: 'DEL' }, config())
    expect(ended).toEqual({ code: 1, signal: null, stdout: error, stderr: 'one\ntwo\n' })
  })

  test('a stderr that nobody reads, or that is closed, does not keep the answer', async () => {
    const stderr = `${'y'.repeat(MAX_STDERR_BYTES - 1)}\n`
    await daemon(async () => ({ exit: 0, stdout: RESULT, stderr }))
    for (const close of [false, true]) {
      const env = { ...POD, CNI_COMMAND: 'ADD' }
      const child = spawn(EXECUTABLE, [], { env, stdio: ['pipe', 'pipe', 'pipe'] })
      if (close) child.stderr.destroy()
      let stdout = ''
      child.stdout.on('data', chunk => {
        stdout += String(chunk)
      })
      const ended = once(child, 'exit')
      const closed = once(child.stdout, 'close')
      child.stdin.end(config())
      expect(await ended).toEqual([0, null])
      await closed
      expect(stdout).toBe(RESULT)
      child.stderr.destroy()
    }
  })

  test('of an earlier version it is asked in that one', async () => {
    const asked: number[] = []
    const stdout = '{"cniVersion":"1.1.0","code":7,"msg":"no","details":""}'
    let fails = false
    await peer(connection => {
      const collect = collector(requestLimit)
      let refused = false
      connection.on('data', chunk => {
        if (refused) return
        // As a daemon of version 1: what follows is none of its business.
        refused = asked.length % 2 === 0
        if (refused) {
          asked.push((chunk as Buffer)[3]!)
          return void connection.end(encodeMessage(WORD.ERROR, Buffer.alloc(0)))
        }
        const message = collect(chunk as Buffer)
        if (message === undefined) return
        asked.push(message.version)
        expect(decodeCni(message.body).config).toContain('"name":"pods"')
        const text = fails ? stdout : RESULT
        connection.end(encodeMessage(fails ? WORD.ERROR : WORD.SUCCESS, Buffer.from(text)))
      })
    })
    const long = config({ more: 'x'.repeat(900_000) })
    for (const stdin of [config(), long]) {
      const ended = await plugin({ ...POD, CNI_COMMAND: 'ADD' }, stdin)
      expect(ended).toEqual({ code: 0, signal: null, stdout: RESULT, stderr: '' })
    }
    fails = true
    const ended = await plugin({ ...POD, CNI_COMMAND: 'DEL' }, config())
    expect(ended).toEqual({ code: 1, signal: null, stdout, stderr: '' })
    expect(asked).toEqual([2, 1, 2, 1, 2, 1])
    expect(readdirSync(folder)).toEqual(['cni.sock'])
  })

  test('a hundred at once wait their turn, and none fails', async () => {
    let now = 0
    let most = 0
    const cni = async ({ env }: CniRequest) => {
      most = Math.max(most, ++now)
      await new Promise(setImmediate)
      now -= 1
      return { exit: 0, stdout: JSON.stringify({ id: env.CNI_CONTAINERID }) }
    }
    await daemon(cni, { served: 8 })
    const ids = Array.from({ length: 100 }, (_, k) => `pod-${k}`)
    const ended = await Promise.all(
      ids.map(id => plugin({ ...POD, CNI_COMMAND: 'ADD', CNI_CONTAINERID: id }, config())),
    )
    expect(ended.map(({ code }) => code)).toEqual(ids.map(() => 0))
    expect(ended.map(({ stdout }) => JSON.parse(stdout).id)).toEqual(ids)
    expect(most).toBeLessThanOrEqual(8)
  })

  test('one that starts anew is waited for, as long as that takes in a cluster', async () => {
    const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
    spawnSync(process.execPath, ['-e', script, socket])
    // It refuses now. A second and a half is nothing that is waited for: it is what a restart lasts.
    const asked = [
      plugin({ ...POD, CNI_COMMAND: 'ADD' }, config()),
      plugin({ ...EMPTY, CNI_COMMAND: 'STATUS' }, config()),
    ]
    await new Promise(resolve => setTimeout(resolve, 1_500))
    await daemon(async () => ({ exit: 0, stdout: RESULT }))
    for (const ended of await Promise.all(asked)) {
      expect(ended).toMatchObject({ code: 0, stdout: RESULT })
    }
  })

  test('one that is only just starting is waited for', async () => {
    const ended = plugin({ ...POD, CNI_COMMAND: 'ADD' }, config())
    await daemon(async () => ({ exit: 0, stdout: RESULT }))
    expect(await ended).toMatchObject({ code: 0, stdout: RESULT })
  })
})

describe('without a daemon', () => {
  test('each verb fails with the right code and a remedy', async () => {
    const codes = { ADD: 11, CHECK: 11, GC: 11, STATUS: CODE.notAvailable }
    const check = async ([CNI_COMMAND, code]: [string, number]) => {
      const error = failure(await plugin({ ...POD, CNI_COMMAND }, config(), HASTY))
      expect(error.code).toBe(code)
      expect(error.msg).toBe(`${socket}: no such socket: the hawser daemon is not running`)
      expect(error.details).toContain('start the hawser daemon')
    }
    await Promise.all(Object.entries(codes).map(check))
    expect(readdirSync(folder)).toEqual([])
  })

  test('a socket that a dead daemon left is the same', async () => {
    const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
    spawnSync(process.execPath, ['-e', script, socket])
    expect(statSync(socket).isSocket()).toBe(true)
    const error = failure(await plugin({ ...EMPTY, CNI_COMMAND: 'STATUS' }, config(), HASTY))
    expect(error.code).toBe(CODE.notAvailable)
    expect(error.msg).toContain('nobody answers')
  })

  test('DEL is queued as it came and succeeds', async () => {
    const { CNI_NETNS: _, ...pod } = POD
    const before = BigInt(Date.now()) * 1_000_000n
    const ended = await plugin({ ...pod, CNI_COMMAND: 'DEL' }, config())
    silent(ended)
    const [name, ...others] = queue()
    expect(others).toEqual([])
    expect(name).toMatch(/^\d{20}-\d+\.del$/)
    const written = BigInt(name!.slice(0, 20))
    expect(written >= before && written <= BigInt(Date.now() + 1) * 1_000_000n).toBe(true)
    const file = join(folder, 'queue', name!)
    expect(ended.stderr).toContain(file)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(statSync(join(folder, 'queue')).mode & 0o777).toBe(0o700)
    const message = collector(requestLimit)(readFileSync(file))
    // Daemons of all versions understand it.
    expect(message).toMatchObject({ version: 1, word: WORD.CNI })
    expect(decodeCni(message!.body)).toEqual({
      env: { ...pod, CNI_COMMAND: 'DEL', CNI_NETNS: '' },
      config: config(),
    })
  })

  test('DEL makes the folders that are missing', async () => {
    const deep = join(folder, 'a', 'b', 'cni.sock')
    silent(await plugin({ ...POD, CNI_COMMAND: 'DEL' }, config({ socket: deep })))
    expect(readdirSync(join(folder, 'a', 'b', 'queue'))).toHaveLength(1)
    expect(statSync(join(folder, 'a')).mode & 0o777).toBe(0o700)
  })

  test('many DELs at once are all queued', async () => {
    const all = Array.from({ length: 50 }, (_, k) =>
      plugin({ ...POD, CNI_COMMAND: 'DEL', CNI_CONTAINERID: `pod-${k}` }, config()),
    )
    for (const ended of await Promise.all(all)) silent(ended)
    expect(queue().filter(name => name.endsWith('.del'))).toHaveLength(50)
    expect(queue()).toHaveLength(50)
  })
})

describe('a daemon that misbehaves', () => {
  const verbs = ['ADD', 'DEL', 'STATUS'] as const
  const reply = (word: number, stdout: string) =>
    encodeMessage(word, encodeCniReply({ exit: 0, stdout }, 2), 2)
  const ofVersion = (version: number, message: Buffer) => {
    const bytes = Buffer.from(message)
    bytes[3] = version
    return bytes
  }
  const otherVersion = ofVersion(7, reply(WORD.ERROR, ''))
  const tooLong = reply(WORD.SUCCESS, '{}')
  tooLong.writeUInt32BE(4 + MAX_CNI_REPLY_BYTES + 1, 8)
  const saying = (length: number, body: string) => {
    const said = Buffer.alloc(4)
    said.writeUInt32BE(length)
    return encodeMessage(0, Buffer.concat([said, Buffer.from(body)]), 2)
  }

  test.each<[string, Buffer, number, string]>([
    ['hangs up', Buffer.alloc(0), CODE.tryAgain, 'hung up'],
    ['hangs up within a header', reply(0, '{}').subarray(0, 7), CODE.tryAgain, 'hung up'],
    ['hangs up within a reply', reply(0, '{"a":1}').subarray(0, 19), CODE.tryAgain, 'hung up'],
    ['hangs up within stderr', saying(4, 'ab{}').subarray(0, 18), CODE.tryAgain, 'hung up'],
    ['says garbage', Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), CODE.protocol, 'not of our protocol'],
    ['is of another version', otherVersion, CODE.protocol, 'version 7 of the protocol, not 2'],
    ['does not say why', ofVersion(1, reply(0, '{}')), CODE.protocol, 'version 1 of the protocol'],
    ['says an unknown word', reply(9, '{}'), CODE.protocol, 'neither success nor error'],
    ['answers too much', tooLong, CODE.protocol, 'too long'],
    ['cuts stderr short', encodeMessage(0, Buffer.alloc(3), 2), CODE.protocol, 'is cut'],
    ['cuts stderr', saying(5, 'ab{}'), CODE.protocol, 'is cut'],
    [
      'says too much on stderr',
      saying(MAX_STDERR_BYTES + 1, 'x'.repeat(MAX_STDERR_BYTES + 1)),
      CODE.protocol,
      'too long',
    ],
    ['answers no JSON', reply(0, 'ok'), CODE.protocol, 'not one JSON object'],
    ['answers two', reply(0, '{}{}'), CODE.protocol, 'not one JSON object'],
    ['fails without an error', reply(1, ''), CODE.protocol, 'not one JSON object'],
  ])('%s', async (_, bytes, code, cause) => {
    await peer(connection => connection.once('data', () => connection.end(bytes)).resume())
    for (const CNI_COMMAND of verbs) {
      const ended = await plugin({ ...POD, CNI_COMMAND }, config())
      if (CNI_COMMAND === 'DEL') {
        silent(ended)
        expect(ended.stderr).toContain(cause)
        continue
      }
      const error = failure(ended)
      const unavailable = CNI_COMMAND === 'STATUS' && code === CODE.tryAgain
      expect(error.code).toBe(unavailable ? CODE.notAvailable : code)
      expect(error.msg).toContain(cause)
    }
    expect(queue()).toHaveLength(1)
  })

  test('hangs up before it read a long request', async () => {
    await peer(connection => connection.destroy())
    const stdin = config({ more: 'x'.repeat(900_000) })
    expect(failure(await plugin({ ...POD, CNI_COMMAND: 'ADD' }, stdin)).code).toBe(CODE.tryAgain)
  })

  test('says nothing at all: the time is bounded', async () => {
    const held: Socket[] = []
    await peer(connection => void held.push(connection.resume()))
    const error = failure(await plugin({ ...EMPTY, CNI_COMMAND: 'STATUS' }, config(), HASTY))
    for (const connection of held) connection.destroy()
    expect(error.code).toBe(CODE.notAvailable)
    expect(error.msg).toContain('did not answer in time')
  })

  test('comes back between the DEL and its queueing: it is asked again, and the file goes', async () => {
    let asked = 0
    const answer = reply(WORD.ERROR, '{"code":7}')
    await peer(connection => {
      connection.once('data', () => {
        asked += 1
        connection.end(asked === 1 ? '' : answer)
      })
    })
    const ended = await plugin({ ...POD, CNI_COMMAND: 'DEL' }, config())
    expect(ended).toMatchObject({ code: 1, stdout: '{"code":7}' })
    expect(asked).toBe(2)
    expect(queue()).toEqual([])
  })

  test('is not run by root: it is told nothing, and a DEL is queued', async () => {
    const theirs = join(folder, 'theirs')
    mkdirSync(theirs)
    chownSync(theirs, NOBODY, NOBODY)
    chmodSync(folder, 0o755)
    const path = join(theirs, 'cni.sock')
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
    const error = failure(await plugin({ ...POD, CNI_COMMAND: 'ADD' }, config({ socket: path })))
    expect(error.code).toBe(CODE.peer)
    expect(error.msg).toBe(`${path}: served by user ${NOBODY}, not by root`)
    const del = await plugin({ ...POD, CNI_COMMAND: 'DEL' }, config({ socket: path }))
    silent(del)
    expect(del.stderr).toContain(`${theirs}: others than root`)
    expect(readdirSync(join(theirs, 'queue'))).toEqual([])
    chownSync(theirs, 0, 0)
    silent(await plugin({ ...POD, CNI_COMMAND: 'DEL' }, config({ socket: path })))
    expect(readdirSync(join(theirs, 'queue'))).toHaveLength(1)
  })
})

describe('hostile stdin', () => {
  const version = (stdin: Buffer) => {
    const { status, signal, stdout } = spawnSync(EXECUTABLE, [], {
      env: { CNI_COMMAND: 'VERSION' },
      input: stdin,
      encoding: 'utf8',
    })
    expect(signal).toBeNull()
    const answer = JSON.parse(stdout)
    expect(answer.code).toBe(status === 0 ? undefined : CODE.decode)
    return status
  }
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  const isObject = (bytes: Buffer): boolean => {
    try {
      const text = utf8.decode(bytes)
      if (/^[ \t\r\n]*$/.test(text)) return true
      const value: unknown = JSON.parse(text)
      return typeof value === 'object' && value !== null && !Array.isArray(value)
    } catch {
      return false
    }
  }

  /** Text that is nearly JSON: JSON, with a few bytes overwritten, taken out or put in. */
  const nearly = fc
    .tuple(
      fc.oneof(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), fc.jsonValue()),
      fc.array(fc.record({ at: fc.nat(), what: fc.constantFrom(0, 1, 2), byte: fc.nat(255) }), {
        maxLength: 3,
      }),
      fc.constantFrom(0, 2),
    )
    .map(([value, changes, indent]) => {
      const bytes = [...Buffer.from(JSON.stringify(value, null, indent))]
      for (const { at, what, byte } of changes) {
        const index = at % (bytes.length + 1)
        if (what === 0) bytes[index] = byte
        else if (what === 1) bytes.splice(index, 1)
        else bytes.splice(index, 0, '{}[]",:\\u0e-.'.charCodeAt(byte % 13))
      }
      return Buffer.from(bytes)
    })

  test('it agrees with JSON.parse about what is an object, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.oneof({ arbitrary: nearly, weight: 3 }, bytes()), stdin => {
        expect(version(stdin) === 0).toBe(isObject(stdin))
      }),
      { numRuns: 1500 },
    )
  })

  function bytes(): fc.Arbitrary<Buffer> {
    return fc.uint8Array({ maxLength: 200 }).map(array => Buffer.from(array))
  }

  test('it reads the same strings as JSON.parse', () => {
    // The path of the socket comes back in the message of a daemon that can't be reached.
    const path = fc
      .string({ unit: 'binary', minLength: 1, maxLength: 20 })
      .filter(text => !text.includes('\0') && !text.endsWith('/') && text.isWellFormed())
    const escapedUnit = (c: string) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`
    fc.assert(
      fc.property(path, fc.boolean(), (text, escaped) => {
        const plain = config({ socket: `/proc/version/${text}` })
        const { stdout, status } = spawnSync(EXECUTABLE, [], {
          env: { ...EMPTY, CNI_COMMAND: 'STATUS' },
          input: escaped ? plain.replace(/[^\x20-\x7e]/g, escapedUnit) : plain,
          encoding: 'utf8',
        })
        expect(status).toBe(1)
        expect(JSON.parse(stdout).msg).toBe(`/proc/version/${text}: Not a directory`)
      }),
      { numRuns: 200 },
    )
  })

  test('every verb, whatever the variables: one JSON document or none, never a signal', async () => {
    await daemon(async () => ({ exit: 0, stdout: '' }))
    const value = fc
      .string({ unit: 'grapheme', maxLength: 20 })
      .filter(text => !text.includes('\0'))
    const input = fc.record({
      CNI_COMMAND: fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION', 'add'),
      CNI_CONTAINERID: fc.oneof(value, fc.constant('id')),
      CNI_NETNS: value,
      CNI_IFNAME: fc.oneof(value, fc.constant('eth0')),
      CNI_ARGS: value,
    })
    // A network without a name is refused: nothing here reaches another socket than ours.
    const nameless = nearly.filter(bytes => !bytes.includes('"name"'))
    await fc.assert(
      fc.asyncProperty(
        input,
        fc.oneof(nameless, fc.constant(Buffer.from(config()))),
        async (env, stdin) => {
          const ended = await plugin(env, stdin)
          expect(ended.signal).toBeNull()
          expect([0, 1]).toContain(ended.code)
          if (ended.stdout !== '') JSON.parse(ended.stdout)
          if (ended.code === 1) failure(ended)
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('the process', () => {
  test('a closed stdout is a failure, not a signal', async () => {
    const child = spawn(EXECUTABLE, [], { env: { CNI_COMMAND: 'VERSION' }, stdio: 'pipe' })
    child.stdout.destroy()
    const closed = once(child, 'exit')
    child.stdin.end('')
    expect(await closed).toEqual([1, null])
  })

  test('it is static: it needs nothing of the host', () => {
    const bytes = readFileSync(EXECUTABLE)
    const programs = bytes.readUInt16LE(56)
    const types = Array.from({ length: programs }, (_, k) =>
      bytes.readUInt32LE(Number(bytes.readBigUInt64LE(32)) + k * bytes.readUInt16LE(54)),
    )
    const PT_INTERP = 3
    expect(types).not.toContain(PT_INTERP)
  })

  test('its error codes are those of cni/spec/errors.ts', () => {
    const header = readFileSync(new URL('../../../native/plugin/answer.h', import.meta.url), 'utf8')
    const codes = [...header.matchAll(/constexpr int k(\w+?)(?:Error)? = (\d+);/g)]
    expect(codes.length).toBeGreaterThanOrEqual(10)
    for (const [, name, code] of codes) {
      const key = `${name![0]!.toLowerCase()}${name!.slice(1)}` as keyof typeof CODE
      expect(CODE[key]).toBe(Number(code))
    }
  })
})
