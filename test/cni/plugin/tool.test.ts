/** The executable in the daemon's container: probes, and the first process. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { serve } from '../../../cni/rpc/server.ts'
import { until } from '../../harness/until.ts'
import { type Ended, EXECUTABLE, finished, HASTY, listener, recorder } from './hawser-plugin.ts'

let folder = ''
let socket = ''
const closing: (() => unknown)[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-tool-'))
  socket = join(folder, 'cni.sock')
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

const tool = (args: readonly string[], executable = EXECUTABLE): Promise<Ended> =>
  finished(spawn(executable, args, { env: {}, stdio: ['pipe', 'pipe', 'pipe'] }))

async function daemon(query: (name: string) => Promise<unknown>): Promise<void> {
  const cni = async () => ({ exit: 0, stdout: '' })
  const server = await serve(socket, { cni, query }, recorder().log)
  closing.push(() => server.close())
}

describe('probes', () => {
  const alive = (): Promise<Ended> => tool(['--alive', socket])
  const ready = (): Promise<Ended> => tool(['--ready', socket])
  const OK = { code: 0, stdout: '', stderr: '' }

  test('a daemon that serves', async () => {
    await daemon(async name => ({ ready: name === 'ready', causes: [] }))
    expect(await alive()).toMatchObject(OK)
    expect(await ready()).toMatchObject(OK)
  })

  test('a daemon that is not ready lives, and its causes are told', async () => {
    await daemon(async () => ({ ready: false, causes: ['no frame', 'no disk'] }))
    expect(await alive()).toMatchObject(OK)
    expect(await ready()).toMatchObject({
      ...{ code: 1, stdout: '' },
      stderr: 'hawser: not ready: ["no frame","no disk"]\n',
    })
  })

  test('a daemon that answers with an error lives', async () => {
    await daemon(async () => {
      throw new Error('the state is locked')
    })
    expect(await alive()).toMatchObject(OK)
    expect(await ready()).toMatchObject({
      code: 1,
      stderr: 'hawser: not ready: the state is locked\n',
    })
  })

  test('nobody', async () => {
    for (const ended of [await alive(), await ready()]) {
      expect(ended).toMatchObject({ code: 1, stdout: '' })
      expect(ended.stderr).toContain(`${socket}: no such socket`)
    }
  })

  test('one that hangs, or hangs up', async () => {
    let hangs = true
    const held: Socket[] = []
    const server = await listener(socket, connection => {
      held.push(connection)
      if (hangs) connection.resume()
      else connection.end()
    })
    closing.push(() => {
      for (const connection of held) connection.destroy()
      return new Promise(resolve => server.close(resolve))
    })
    expect((await tool(['--alive', socket], HASTY)).stderr).toContain('did not answer in time')
    hangs = false
    expect((await alive()).stderr).toContain('hung up')
  })

  test.each([
    [[]],
    [['--live']],
    [['--alive', '/a/b', 'more']],
    [['--ready', 'cni.sock']],
    [['--ready', `/${'a'.repeat(107)}`]],
    [['--init']],
  ])('%j is told what it should be', async args => {
    const ended = await tool(args)
    if (args.length === 0) return expect(ended).toMatchObject({ code: 0, stdout: '' })
    expect(ended).toMatchObject({ code: 2, stdout: '' })
    expect(ended.stderr).toMatch(/^hawser: (usage|.*not an absolute path)/)
  })

  test('a runtime that gives arguments is answered all the same', async () => {
    const env = { CNI_COMMAND: 'VERSION' }
    const child = spawn(EXECUTABLE, ['--ready'], { env, stdio: ['pipe', 'pipe', 'pipe'] })
    expect(JSON.parse((await finished(child)).stdout)).toHaveProperty('supportedVersions')
  })
})

describe('the first process of a container', () => {
  /** As process 1 of a PID namespace, where /proc shows that one. */
  function container(script: string): ChildProcess {
    const inside = ['unshare', '--pid', '--mount-proc', '--fork', '--kill-child', '--']
    const words = [...inside, EXECUTABLE, '--init', process.execPath, '-e', script]
    const child = spawn(words[0]!, words.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] })
    closing.push(() => child.kill('SIGKILL'))
    return child
  }

  test.each([0, 7])('ends with the program, %i', async code => {
    expect(await finished(container(`process.exit(${code})`))).toMatchObject({ code })
  })

  test('after a signal too', async () => {
    expect(await finished(container("process.kill(process.pid, 'SIGKILL')"))).toMatchObject({
      code: 137,
    })
  })

  test('says what it can not run', async () => {
    const absent = await tool(['--init', join(folder, 'absent')])
    expect(absent).toMatchObject({ code: 127, stderr: expect.stringContaining('No such file') })
    expect(await tool(['--init', folder])).toMatchObject({ code: 126 })
  })

  test('hands on signals, which the program has as it always does', async () => {
    // Not in a PID namespace: `unshare` would have the signal.
    const script = `
      process.on('SIGTERM', () => process.exit(3))
      setInterval(() => {}, 1000)
      process.stdout.write('started\\n')`
    const words = ['--init', process.execPath, '-e', script]
    const child = spawn(EXECUTABLE, words, { stdio: ['pipe', 'pipe', 'inherit'] })
    closing.push(() => child.kill('SIGKILL'))
    await once(createInterface(child.stdout!), 'line')
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    expect(await ended).toEqual([3, null])
  })

  test('takes the exit codes of those whose parents are gone', async () => {
    // Each shell ends before what it has started, which so becomes a child of process 1.
    const script = `
      const { spawn } = require('node:child_process')
      const { readdirSync } = require('node:fs')
      let left = 20
      for (let k = left; k > 0; k--) {
        spawn('sh', ['-c', 'sleep 0.2 & exit 0'], { stdio: 'ignore' }).on('exit', () => { left -= 1 })
      }
      setInterval(() => {
        const processes = readdirSync('/proc').filter(name => /^[0-9]+$/.test(name)).length
        console.log(JSON.stringify({ left, processes }))
      }, 20)
      process.stdin.on('end', () => process.exit(0)).resume()`
    const child = container(script)
    let last = { left: 20, processes: 0 }
    createInterface(child.stdout!).on('line', line => {
      last = JSON.parse(line)
    })
    // Process 1 and the program; a zombie would be one more.
    await until('only two processes are left', () => last.left === 0 && last.processes === 2)
    child.stdin!.end()
    expect(await once(child, 'close')).toEqual([0, null])
  })

  test('the program does not outlive it', async () => {
    const script = "process.stdout.write(process.pid + '\\n'); setInterval(() => {}, 1000)"
    const words = ['--init', process.execPath, '-e', script]
    const child = spawn(EXECUTABLE, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    const [pid] = (await once(createInterface(child.stdout!), 'line')) as [string]
    child.kill('SIGKILL')
    await until('the program has ended', () => {
      try {
        return readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]![0] === 'Z'
      } catch {
        return true
      }
    })
  })
})
