/**
 * DEL at every limit, as a runtime sees it: the real executable, real file systems without room, a
 * daemon that is away, hangs, refuses or can't now. It succeeds, and says on stderr what became of it.
 */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { drainQueue } from '../../../cni/rpc/del-queue.ts'
import { collector, decodeCni, MAX_CONFIG_BYTES, requestLimit } from '../../../cni/rpc/protocol.ts'
import { serve } from '../../../cni/rpc/server.ts'
import { CODE } from '../../../cni/spec/errors.ts'
import type { CniReply, CniRequest } from '../../../cni/spec/request.ts'
import {
  type Ended,
  HASTY,
  listener,
  NOBODY,
  POD,
  plugin,
  recorder,
  silent,
} from './hawser-plugin.ts'

let folder = ''
let socket = ''
const closing: (() => unknown)[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-del-'))
  socket = join(folder, 'cni.sock')
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

function config(more: object = {}): string {
  return JSON.stringify({ cniVersion: '1.1.0', name: 'pods', type: 'hawser', socket, ...more })
}

const del = (stdin: string, executable = HASTY): Promise<Ended> =>
  plugin({ ...POD, CNI_COMMAND: 'DEL' }, stdin, executable)

const queue = (): string[] => readdirSync(join(folder, 'queue'))

/** The request in the only file of the queue. */
function queued(): CniRequest {
  const [name, ...others] = queue()
  expect(others).toEqual([])
  return decodeCni(collector(requestLimit)(readFileSync(join(folder, 'queue', name!)))!.body)
}

async function daemon(reply: CniReply): Promise<CniRequest[]> {
  const seen: CniRequest[] = []
  const cni = async (request: CniRequest): Promise<CniReply> => {
    seen.push(request)
    return reply
  }
  const server = await serve(socket, { cni, query: async () => null }, recorder().log)
  closing.push(() => server.close())
  return seen
}

const OK = { exit: 0, stdout: '' }
const refusal = (code: number): CniReply => ({
  exit: 1,
  stdout: JSON.stringify({ cniVersion: '1.1.0', code, msg: 'no', details: '' }),
})
/** As Go's encoding/json writes 256 KiB of `<` in a pod's annotations. */
const ANNOTATIONS = `{"io.kubernetes.cri.pod-annotations":{"a":"${'\\u003c'.repeat(256 * 1024)}"}}`
const annotated = (): string => `${config().slice(0, -1)},"runtimeConfig":${ANNOTATIONS}}`

describe('what a DEL says', () => {
  test('the largest annotations: ADD has them, DEL goes without', async () => {
    const seen = await daemon(OK)
    silent(await plugin({ ...POD, CNI_COMMAND: 'ADD' }, annotated()))
    silent(await del(annotated()))
    expect(seen[0]!.config === annotated()).toBe(true)
    expect(seen[1]!.config).toBe(config())
  })

  test('what is queued has none either, and the daemon takes it', async () => {
    silent(await del(annotated()))
    expect(queued().config).toBe(config())
    const handled: CniRequest[] = []
    const handle = async (request: CniRequest): Promise<CniReply> => {
      handled.push(request)
      return OK
    }
    expect(await drainQueue(socket, handle, recorder().log)).toBe(1)
    expect(handled[0]!.env.CNI_CONTAINERID).toBe(POD.CNI_CONTAINERID)
  })

  test('one that is longer than anything succeeds unread', async () => {
    const seen = await daemon(OK)
    const ended = await del(config({ more: 'x'.repeat(MAX_CONFIG_BYTES) }))
    silent(ended)
    expect(ended.stderr).toContain(`stdin: longer than ${MAX_CONFIG_BYTES} bytes`)
    expect(ended.stderr).toContain('when its namespace is gone')
    expect(seen).toEqual([])
  })

  test('all but the outermost runtimeConfig stays, wherever it stands', async () => {
    const seen = await daemon(OK)
    const key = fc.constantFrom('runtimeConfig', 'a', 'b', 'prevResult', 'ü')
    const member = fc.tuple(key, fc.jsonValue({ maxDepth: 2 }), fc.boolean())
    await fc.assert(
      fc.asyncProperty(fc.array(member, { maxLength: 5 }), async members => {
        const text = members.map(([name, value, escaped]) => {
          const written = escaped ? name.replace('o', '\\u006f') : name
          return `"${written}" : ${JSON.stringify({ value, runtimeConfig: 1 })} `
        })
        const own = config().slice(1, -1)
        silent(await del(`{ ${[...text.slice(0, 2), own, ...text.slice(2)].join(',')}}`))
        const expected = JSON.parse(`{${[...text, own].join(',')}}`)
        delete expected.runtimeConfig
        expect(JSON.parse(seen.pop()!.config)).toEqual(expected)
      }),
      { numRuns: 100 },
    )
  })

  test.each(['9.9.9', '', 7, null, ['1.0.0']])('cniVersion %j is forgiven', async cniVersion => {
    const seen = await daemon(OK)
    silent(await del(config({ cniVersion })))
    expect(JSON.parse(seen[0]!.config).cniVersion).toEqual(cniVersion)
  })
})

describe('what the daemon answers', () => {
  test.each([CODE.io, CODE.tryAgain, CODE.internal])(
    'error %i: it can not now, so the DEL is queued and succeeds',
    async code => {
      const seen = await daemon(refusal(code))
      const ended = await del(config())
      silent(ended)
      expect(ended.stderr).toContain(`"code":${code}`)
      expect(ended.stderr).toContain(join(folder, 'queue'))
      expect(queued().env.CNI_COMMAND).toBe('DEL')
      expect(seen).toHaveLength(1)
    },
  )

  test.each([CODE.environment, CODE.config, 117])(
    'error %i: the request is wrong, or a plugin of others says so',
    async code => {
      await daemon(refusal(code))
      expect(await del(config())).toMatchObject({ code: 1, stdout: refusal(code).stdout })
      expect(readdirSync(folder)).toEqual(['cni.sock'])
    },
  )

  test('nothing at all: it is queued when the time is over', async () => {
    const held: Socket[] = []
    const server = await listener(socket, connection => void held.push(connection.resume()))
    closing.push(() => new Promise(resolve => server.close(resolve)))
    const ended = await del(config())
    for (const connection of held) connection.destroy()
    silent(ended)
    expect(ended.stderr).toContain('did not answer in time')
    expect(held).toHaveLength(2)
    expect(queue()).toHaveLength(1)
  })
})

describe('a queue that can not be written', () => {
  /** A file system of its own at `queue/`. */
  function limited(options: string): string {
    const path = join(folder, 'queue')
    mkdirSync(path, { mode: 0o700 })
    const mount = ['-t', 'tmpfs', '-o', `mode=0700,${options}`, 'tmpfs', path]
    const { status, stderr } = spawnSync('mount', mount, { encoding: 'utf8' })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    closing.push(() => spawnSync('umount', [path]))
    return path
  }

  /** A DEL that the daemon isn't there for, and one that it can't do: neither fails, neither leaves anything. */
  async function forgiven(cause: string): Promise<void> {
    const before = readdirSync(join(folder, 'queue'))
    const away = await del(config())
    silent(away)
    expect(away.stderr).toContain(`${socket}: no such socket`)
    await daemon(refusal(CODE.io))
    const refused = await del(config())
    silent(refused)
    for (const { stderr } of [away, refused]) {
      expect(stderr).toContain(`can not be queued: ${folder}`)
      expect(stderr).toContain(cause)
      expect(stderr).toContain('when its namespace is gone')
      expect(stderr.trim().split('\n')).toHaveLength(1)
    }
    expect(readdirSync(join(folder, 'queue'))).toEqual(before)
  }

  test('no room', async () => {
    const path = limited('size=64k')
    const filler = openSync(join(path, 'filler'), 'w')
    const page = Buffer.alloc(4096, 1)
    expect(() => {
      for (;;) writeFileSync(filler, page)
    }).toThrow('ENOSPC')
    closeSync(filler)
    await forgiven('No space left on device')
  })

  test('no inode', async () => {
    const path = limited('nr_inodes=4')
    expect(() => {
      for (let k = 0; ; k++) writeFileSync(join(path, `filler-${k}`), '')
    }).toThrow('ENOSPC')
    await forgiven('No space left on device')
  })

  test('read only', async () => {
    const path = limited('size=64k')
    spawnSync('mount', ['-o', 'remount,ro', path])
    await forgiven('Read-only file system')
  })

  test('full by its own limits', async () => {
    mkdirSync(join(folder, 'queue'), { mode: 0o700 })
    const large = openSync(join(folder, 'queue', 'large.broken'), 'w')
    ftruncateSync(large, 64 * 1024 * 1024)
    closeSync(large)
    await forgiven('the queue is full (1 requests)')
  })

  test('not a folder, or not of root alone', async () => {
    const path = join(folder, 'queue')
    const said = async (cause: string): Promise<void> => {
      const ended = await del(config())
      silent(ended)
      expect(ended.stderr).toContain(cause)
    }
    writeFileSync(path, '')
    await said('Not a directory')
    rmSync(path)
    mkdirSync(path)
    chmodSync(path, 0o770)
    await said('others than root may write there')
    chmodSync(path, 0o700)
    chownSync(path, NOBODY, NOBODY)
    await said('others than root may write there')
    chownSync(path, 0, 0)
    chmodSync(folder, 0o777)
    await said(`${folder}: others than root`)
    expect(queue()).toEqual([])
  })
})
