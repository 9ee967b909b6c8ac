/**
 * Programs that tests need and that take minutes to build: kept outside the checkout, in
 * $XDG_CACHE_HOME/hawser/test (~/.cache/hawser/test), under a hash of what they are made from. A clean
 * checkout on the same machine finds them. `npm test` builds what is missing before the first test.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder } from '../../bench/harness/cache.ts'
import { must } from './processes.ts'

/** Milliseconds for a program that is built from nothing, on two busy cores. */
export const BUILD_MS = 40 * 60_000
/** What the Go modules ask for: 1.MINOR. */
const GO_MINOR = 24

function goVersion(): string {
  return spawnSync('go', ['version'], { encoding: 'utf8' }).stdout ?? ''
}

/** Why Go can't build here; undefined when it can. */
export function goCause(): string | undefined {
  const minor = Number(/go1\.(\d+)/.exec(goVersion())?.[1] ?? 0)
  if (minor >= GO_MINOR) return undefined
  return minor === 0 ? 'go is missing' : `go 1.${minor} is older than 1.${GO_MINOR}`
}

/** Go in the folder `place`, where it also installs. Throws with the compiler's words. */
export function go(place: string, args: readonly string[]): Promise<string> {
  return must('go', args, {
    cwd: place,
    env: {
      ...(process.env as Record<string, string>),
      GOBIN: place,
      GOFLAGS: '-mod=mod -buildvcs=false',
      GOTOOLCHAIN: 'local',
      CGO_ENABLED: '0',
    },
  })
}

/**
 * Path of the program `name`, made from what `sources` say (texts, versions) by this Go. `build` leaves
 * it, under its name, in the folder that it is given.
 */
export async function prebuilt(
  name: string,
  sources: readonly string[],
  build: (place: string) => Promise<unknown>,
): Promise<string> {
  const hash = createHash('sha256').update(`${process.arch} ${goVersion()}`)
  for (const each of sources) hash.update(each)
  const folder = join(cacheFolder(), 'test')
  const program = join(folder, `${name}-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(program)) return program
  process.stderr.write(`hawser: building ${name}: minutes, the first time\n`)
  mkdirSync(folder, { recursive: true })
  // In a place of its own: two test files may build it at once, and the last one's stays.
  const place = mkdtempSync(join(folder, '.new-'))
  try {
    await build(place)
    renameSync(join(place, name), program)
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
  return program
}
