/**
 * The last view that the engine took, on disk beside the state: a daemon that starts beside a cluster file that can't
 * be used works by it. It is written as a cluster file, whole and durably, and checked as one when it is read.
 */
import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { NodeSpec } from '../../dataplane/control.ts'
import type { Logger } from '../base/logger.ts'
import { syncFolder } from '../fs/folder.ts'
import { ClusterFile } from './file.ts'
import type { ClusterView } from './view.ts'

export class LastGood {
  readonly path: string
  readonly #log: Logger

  constructor(path: string, log: Logger) {
    this.path = path
    this.#log = log
  }

  /** Keeps a view. One that can't be written is logged: it is only missed at a start beside a broken file. */
  keep({ self, peers, networks }: ClusterView): void {
    const text = JSON.stringify({ nodes: [self, ...peers].map(inFile), networks })
    try {
      const beside = `${this.path}.new`
      const fd = openSync(beside, 'w', 0o600)
      try {
        writeFileSync(fd, text)
        fsyncSync(fd)
      } finally {
        closeSync(fd)
      }
      renameSync(beside, this.path)
      syncFolder(dirname(this.path))
    } catch (error) {
      const cause = (error as Error).message
      this.#log.warn({ file: this.path, cause }, 'the last good cluster file is not kept')
    }
  }

  /** What was kept, as `node` sees it; undefined when there is none that can be used. */
  read(node: string, vni: number | undefined): ClusterView | undefined {
    try {
      return ClusterFile.read(this.path, node, vni)
    } catch {
      return undefined
    }
  }
}

/** A node as a cluster file has it. */
function inFile({ podCidrs, ...rest }: NodeSpec): object {
  return { ...rest, podCIDRs: podCidrs }
}
