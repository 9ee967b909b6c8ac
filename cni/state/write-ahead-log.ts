/**
 * SQLite's write-ahead log, and the wait for the disk to have it. A commit with `synchronous=NORMAL` has
 * written its frames into the log and not waited; `fdatasync` of the same file makes every frame so far
 * durable (https://sqlite.org/wal.html, "Performance Considerations"). It runs on another thread, and one
 * serves all who asked before it began: a burst of pods costs a few waits instead of one each.
 */
import { closeSync, fdatasync, openSync } from 'node:fs'
import { promisify } from 'node:util'

const sync = promisify(fdatasync)

export class WriteAheadLog {
  private readonly path: string
  private fd = -1
  private running: Promise<void> | undefined
  private next: Promise<void> | undefined

  constructor(path: string) {
    this.path = path
  }

  /** Resolves when what the log holds now is on the disk. Rejects with the system's error. */
  sync(): Promise<void> {
    if (this.running === undefined) {
      this.running = this.flush().finally(() => {
        this.running = undefined
      })
      return this.running
    }
    // That one may have begun before the caller's frames were written: one behind it serves all.
    this.next ??= this.running
      .catch(() => {})
      .then(() => {
        this.next = undefined
        return this.sync()
      })
    return this.next
  }

  private async flush(): Promise<void> {
    // SQLite holds no lock on this file that closing another descriptor of it would give up.
    if (this.fd < 0) this.fd = openSync(this.path, 'r')
    await sync(this.fd)
  }

  /** Idempotent. What is under way ends first. */
  close(): void {
    const { fd } = this
    this.fd = -1
    if (fd < 0) return
    if (this.running === undefined) closeSync(fd)
    else void this.running.catch(() => {}).then(() => closeSync(fd))
  }
}
