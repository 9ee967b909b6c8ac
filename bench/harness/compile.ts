/**
 * Builds the bench's C++ programs when their sources, their flags or the compiler are others than before.
 * They are measuring tools, not part of the product: binding.gyp doesn't know them. They are kept outside
 * the checkout (cache.ts), under a hash of what they are made from.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { cpus } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cacheFolder } from './cache.ts'
import { progress, Skipped } from './suite.ts'

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const flags = ['-O2', '-std=c++20', '-Wall', '-Wextra', '-Werror', '-pthread']

/** The compiler's name and version. */
function compiler(): string {
  try {
    return execFileSync('g++', ['--version'], { encoding: 'utf8' })
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') throw error
    throw new Skipped('no g++ on this machine (apt install g++)')
  }
}

/**
 * Path of the program made from `source` (relative to the checkout) and the headers beside it; `more` are
 * arguments behind the source: libraries, other flags, files that it is made from too. `facts`: what else
 * it depends on, such as the version of a library.
 */
export function compile(
  source: string,
  more: readonly string[] = [],
  facts: readonly string[] = [],
): string {
  const from = join(root, source)
  const name = basename(source, '.cc')
  const beside = dirname(from)
  const headers = readdirSync(beside).filter(each => each.endsWith('.h'))
  // Some are built for this CPU (-march=native).
  const hash = createHash('sha256').update(
    JSON.stringify([compiler(), cpus()[0]?.model, flags, more, facts]).replaceAll(root, ''),
  )
  for (const path of [from, ...headers.sort().map(each => join(beside, each)), ...more]) {
    if (path.startsWith('/') && existsSync(path)) hash.update(readFileSync(path))
  }
  const folder = join(cacheFolder(), 'bench')
  const to = join(folder, `${name}-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(to)) return to
  mkdirSync(folder, { recursive: true })
  progress(`building ${source}`)
  const fresh = `${to}.${process.pid}`
  try {
    const words = [...flags, '-o', fresh, from, ...more]
    execFileSync('g++', words, { stdio: ['ignore', 'inherit', 'pipe'] })
  } catch (error) {
    throw new Error(`${source}: g++ failed:\n${(error as { stderr?: Buffer }).stderr}`)
  }
  renameSync(fresh, to)
  return to
}
