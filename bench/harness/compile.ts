/**
 * Builds the bench's C++ programs into build/bench when they are older than their sources. They are
 * measuring tools, not part of the product: binding.gyp doesn't know them.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { progress, Skipped } from './suite.ts'

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const folder = join(root, 'build/bench')
const flags = ['-O2', '-std=c++20', '-Wall', '-Wextra', '-Werror', '-pthread']

function modified(path: string): number {
  return existsSync(path) ? statSync(path).mtimeMs : 0
}

/** Path of the program made from `source` (relative to the checkout) and the headers beside it; `more` are arguments behind the source: libraries, other flags, files that it is made from too. */
export function compile(source: string, more: readonly string[] = []): string {
  const from = join(root, source)
  const to = join(folder, basename(source, '.cc'))
  const beside = dirname(from)
  const headers = readdirSync(beside).filter(name => name.endsWith('.h'))
  const parts = [from, ...headers.map(name => join(beside, name)), ...more]
  const newest = Math.max(...parts.map(modified))
  if (modified(to) >= newest) return to
  mkdirSync(folder, { recursive: true })
  progress(`building ${source}`)
  const fresh = `${to}.${process.pid}`
  try {
    const words = [...flags, '-o', fresh, from, ...more]
    execFileSync('g++', words, { stdio: ['ignore', 'inherit', 'pipe'] })
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: Buffer }
    if (code === 'ENOENT') throw new Skipped('no g++ on this machine (apt install g++)')
    throw new Error(`${source}: g++ failed:\n${stderr}`)
  }
  renameSync(fresh, to)
  return to
}
