/** Calls into process.ts, which runs in the namespace of a node. */
import { fileURLToPath } from 'node:url'
import { Running } from '../../harness/processes.ts'

const PROGRAM = fileURLToPath(new URL('./process.ts', import.meta.url))

export interface Kept<T> {
  kept: number
  value: T
}

interface Answer {
  id?: number
  value?: unknown
  error?: string
  code?: string
}

export class NodeProcess {
  private readonly running: Running
  private calls = 0

  constructor(netns: string) {
    this.running = new Running(process.execPath, [PROGRAM], { netns })
  }

  /** What the function returned, with a handle to hand it on. Throws what it threw, `code` too. */
  async call<T = null>(name: string, ...args: unknown[]): Promise<Kept<T>> {
    return this.send({ name, args })
  }

  /** Calls a method of what an earlier call returned. */
  async method<T = null>(on: Kept<unknown>, name: string, ...args: unknown[]): Promise<T> {
    return (await this.send<T>({ on: on.kept, name, args })).value
  }

  /** Ends it, whatever it does. */
  async stop(): Promise<void> {
    await this.running.stop('SIGKILL')
  }

  private async send<T>(call: object): Promise<Kept<T>> {
    const id = ++this.calls
    this.running.child.stdin!.write(`${JSON.stringify({ id, ...call })}\n`)
    const line = await this.running.until(each => (JSON.parse(each) as Answer).id === id)
    const { value, error, code } = JSON.parse(line) as Answer
    if (error !== undefined) throw Object.assign(new Error(error), { code })
    return { kept: id, value: value as T }
  }
}
