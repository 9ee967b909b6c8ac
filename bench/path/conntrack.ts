/** The kernel's table of connections as the bench needs it: large enough, empty at the start, and asked what it holds. */
import { readFileSync, writeFileSync } from 'node:fs'
import { compile } from '../harness/compile.ts'
import type { Namespace } from '../harness/namespaces.ts'
import { Skipped } from '../harness/suite.ts'
import { later } from '../harness/undo.ts'

const SETTINGS = '/proc/sys/net/netfilter'

/**
 * Room for `flows` flows, in as many buckets, until the bench ends. Both are the whole machine's. Throws Skipped
 * outside of the first network namespace, from which alone they can be set.
 */
export function makeRoom(flows: number): void {
  for (const name of ['nf_conntrack_buckets', 'nf_conntrack_max']) {
    const file = `${SETTINGS}/${name}`
    try {
      const before = readFileSync(file, 'utf8')
      if (Number(before) >= flows) continue
      writeFileSync(file, String(flows))
      later(() => writeFileSync(file, before))
    } catch (error) {
      const { code } = error as { code?: string }
      throw new Skipped(`${file}: can't be set to ${flows} here (${code}); it is the host's`)
    }
  }
}

export interface Tracked {
  /** Flows that are in the table, and those that were refused or put out for want of room. */
  live: number
  refused: number
}

export function tracked(node: Namespace): Tracked {
  const [head, ...rows] = node
    .run('cat', '/proc/net/stat/nf_conntrack')
    .trim()
    .split('\n')
    .map(line => line.trim().split(/\s+/))
  const sum = (name: string) =>
    rows.reduce((total, row) => total + Number.parseInt(row[head!.indexOf(name)]!, 16), 0)
  // `entries` is the namespace's, and the same in the row of each CPU.
  return {
    live: Number.parseInt(rows[0]![head!.indexOf('entries')]!, 16),
    refused: sum('drop') + sum('early_drop') + sum('insert_failed'),
  }
}

/** Flows that have been answered, of those that are in the table; it is to be a small one. */
export function answered(node: Namespace): number {
  const lines = node.run('cat', '/proc/net/nf_conntrack').trim().split('\n')
  return lines.filter(line => line !== '' && !line.includes('[UNREPLIED]')).length
}

export function forgetAll(node: Namespace): void {
  node.run(compile('bench/path/native/forget.cc'))
}
