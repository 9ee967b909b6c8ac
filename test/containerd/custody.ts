/** Has everything that a test makes cleaned up whatever becomes of the test (custodian.ts). */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const CUSTODIAN = fileURLToPath(new URL('custodian.ts', import.meta.url))

export interface Care {
  /** Prefix of the names of network namespaces. */
  namespaces?: string
  cgroup?: string
  folder?: string
  /** A podman is about to run. */
  podman?: true
}

export class Custody {
  private readonly custodian: ChildProcess

  constructor() {
    const stdio = ['pipe', 'pipe', 'inherit'] as const
    this.custodian = spawn(process.execPath, [CUSTODIAN], { stdio: [...stdio], detached: true })
  }

  /** To be called before the thing is made. */
  add(care: Care): void {
    this.custodian.stdin!.write(`${JSON.stringify(care)}\n`)
  }

  /** Cleans up; resolves with the command lines of the processes that still had to be ended. */
  async end(): Promise<string[]> {
    let answer = ''
    this.custodian.stdout!.on('data', chunk => {
      answer += String(chunk)
    })
    this.custodian.stdin!.end()
    await once(this.custodian, 'close')
    return JSON.parse(answer) as string[]
  }
}
