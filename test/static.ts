/** Format, lint and types: what needs no test to run. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

function nativeSources(root: string): string[] {
  return ['native', 'bench', 'test/policy/native'].flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter(entry => /\.(cc|h)$/.test(entry.name))
      .map(entry => join(entry.parentPath, entry.name)),
  )
}

/** Runs the checks, one after the other; returns how many failed. What a check says is printed when it failed. */
export async function staticChecks(root: string): Promise<number> {
  const bin = (name: string) => join(root, 'node_modules/.bin', name)
  const checks: [string, string, string[]][] = [
    ['format and lint', bin('biome'), ['check', '--error-on-warnings', '.']],
    ['native format', bin('clang-format'), ['--dry-run', '--Werror', ...nativeSources(root)]],
    ['types', bin('tsc'), ['--noEmit', '-p', '.']],
  ]
  let failed = 0
  for (const [name, command, args] of checks) {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', chunk => {
        said += String(chunk)
      })
    }
    const [code] = (await once(child, 'close')) as [number | null]
    if (code !== 0) {
      failed++
      process.stderr.write(said)
    }
    process.stderr.write(`hawser: ${name}: ${code === 0 ? 'ok' : 'FAILED'}\n`)
  }
  return failed
}
