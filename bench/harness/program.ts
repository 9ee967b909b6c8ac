/**
 * A program that runs beside the bench and speaks its protocol: it prints `ready` when it works,
 * answers each line on stdin with one JSON line, and ends on SIGTERM or at the end of its input.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Namespace } from './namespaces.ts'
import { later } from './undo.ts'

/** How long a program may take for a line, and to end. */
const PATIENCE_MS = 20_000

interface Waiting {
  resolve(line: string): void
  reject(error: Error): void
}

export type Figures<Key extends string> = Record<Key, number> & Record<string, unknown>

export class Program {
  readonly name: string
  private readonly child: ChildProcess
  private readonly ended: Promise<void>
  private readonly forget: () => void
  private readonly lines: string[] = []
  private readonly waiting: Waiting[] = []
  private complaint = ''
  private heard: (() => void) | undefined
  private over: Error | undefined

  /** Starts `file`, in `namespace` if given. */
  constructor(name: string, file: string, args: readonly string[], namespace?: Namespace) {
    this.name = name
    const words = namespace
      ? ['ip', 'netns', 'exec', namespace.name, file, ...args]
      : [file, ...args]
    const child = spawn(words[0]!, words.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] })
    this.child = child
    this.forget = later(() => child.kill('SIGKILL'))
    child.stdin.on('error', () => {})
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.complaint = (this.complaint + text).slice(-4000)
      this.heard?.()
    })
    createInterface({ input: child.stdout }).on('line', line => this.take(line))
    this.ended = new Promise(resolve => {
      child.on('error', error => this.end(error.message))
      child.on('error', () => resolve())
      child.on('close', (code, signal) => {
        this.end(`ended with ${code ?? signal}`)
        resolve()
      })
    })
  }

  /** The next line of stdout; throws when the program ends or says nothing for too long. */
  async line(): Promise<string> {
    const line = this.lines.shift()
    if (line !== undefined) return line
    if (this.over) throw this.over
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<string>((resolve, reject) => {
        this.waiting.push({ resolve, reject })
        timer = setTimeout(() => reject(this.error('no answer')), PATIENCE_MS)
      })
    } finally {
      clearTimeout(timer)
    }
  }

  /** Process id; `ip netns exec` becomes the program. */
  get pid(): number {
    return this.child.pid!
  }

  async ready(): Promise<void> {
    const line = await this.line()
    if (line !== 'ready') throw this.error(`said ${JSON.stringify(line)} instead of "ready"`)
  }

  /** Waits until stderr holds `text`: for a daemon that says there that it serves. */
  async logged(text: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    try {
      await new Promise<void>((resolve, reject) => {
        this.heard = () => {
          if (this.over) reject(this.over)
          else if (this.complaint.includes(text)) resolve()
        }
        timer = setTimeout(() => reject(this.error(`never said ${text}`)), PATIENCE_MS)
        this.heard()
      })
    } finally {
      this.heard = undefined
      clearTimeout(timer)
    }
  }

  /** The next line as JSON with these numbers in it, and maybe more. */
  async figures<Key extends string>(keys: readonly Key[]): Promise<Figures<Key>> {
    const line = await this.line()
    let found: Record<string, unknown>
    try {
      found = JSON.parse(line) as Record<string, unknown>
    } catch {
      throw this.error(`said ${JSON.stringify(line)} instead of JSON`)
    }
    for (const key of keys) {
      if (typeof found[key] !== 'number') throw this.error(`no number "${key}" in ${line}`)
    }
    return found as Figures<Key>
  }

  /** Asks for figures; `request` is one line. */
  ask<Key extends string>(keys: readonly Key[], request = ''): Promise<Figures<Key>> {
    this.child.stdin?.write(`${request}\n`)
    return this.figures(keys)
  }

  /** SIGTERM, then SIGKILL if it takes too long. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.child.kill('SIGKILL'), PATIENCE_MS)
    this.child.kill('SIGTERM')
    await this.ended
    clearTimeout(timer)
    this.forget()
  }

  private take(line: string): void {
    const first = this.waiting.shift()
    if (first) first.resolve(line)
    else this.lines.push(line)
  }

  private end(why: string): void {
    this.over = this.error(why)
    for (const one of this.waiting.splice(0)) one.reject(this.over)
    this.heard?.()
  }

  private error(what: string): Error {
    const complaint = this.complaint.trim()
    return new Error(`${this.name}: ${what}${complaint === '' ? '' : `: ${complaint}`}`)
  }
}

/** `milliseconds` of letting things run. */
export function during(milliseconds: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, milliseconds))
}
