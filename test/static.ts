/** Format, lint, import direction and types: what needs no test to run. */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

function nativeSources(root: string): string[] {
  return ['native', 'bench'].flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter(entry => /\.(cc|h)$/.test(entry.name))
      .map(entry => join(entry.parentPath, entry.name)),
  )
}

/** Runs each check; returns how many failed. */
export function staticChecks(root: string): number {
  const bin = (name: string) => join(root, 'node_modules/.bin', name)
  const checks: [string, string, string[]][] = [
    ['format and lint', bin('biome'), ['check', '--error-on-warnings', '.']],
    ['native format', bin('clang-format'), ['--dry-run', '--Werror', ...nativeSources(root)]],
    ['types', bin('tsc'), ['--noEmit', '-p', '.']],
  ]
  let failed = 0
  for (const [name, command, args] of checks) {
    const done = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] })
    const ok = done.status === 0
    process.stderr.write(`hawser: ${name}: ${ok ? 'ok' : 'FAILED'}\n`)
    if (!ok) failed++
  }
  return failed
}
