/**
 * Helm, and validate.go with what the API server itself validates by: built with Go where there is one,
 * into build/deploy, and used again until their sources or Go change. Cold that takes minutes.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { must } from '../harness/processes.ts'

/** Milliseconds for a tool that is built from nothing, on two busy cores. */
export const BUILD_MS = 40 * 60_000
const FLAGS = ['-trimpath', '-ldflags=-s -w']
const HELM = 'helm.sh/helm/v3/cmd/helm@v3.19.5'
/** What the modules ask for: 1.MINOR. */
const GO_MINOR = 24

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const folder = here('../../build/deploy')
const modules = ['go.mod', 'go.sum'].map(name => here(`../kubernetes/${name}`))

function goVersion(): string {
  return spawnSync('go', ['version'], { encoding: 'utf8' }).stdout ?? ''
}

/** Why `what` can't be built here, printed; undefined when it can. */
export function goProblem(what: string): string | undefined {
  const minor = Number(/go1\.(\d+)/.exec(goVersion())?.[1] ?? 0)
  if (minor >= GO_MINOR) return undefined
  const cause = minor === 0 ? 'go is missing' : `go 1.${minor} is older than 1.${GO_MINOR}`
  console.log(`skipped: ${cause}: ${what} is built from source`)
  return cause
}

/** Path of Helm. */
export function helm(): Promise<string> {
  return built('helm', [HELM], place => go(place, ['install', ...FLAGS, HELM]))
}

/** Path of validate.go's program. */
export function validator(): Promise<string> {
  const sources = [...modules, here('validate.go')]
  const texts = sources.map(each => readFileSync(each, 'utf8'))
  return built('validate', texts, place => {
    for (const each of sources) copyFileSync(each, join(place, basename(each)))
    return go(place, ['build', ...FLAGS, '-o', 'validate', 'validate.go'])
  })
}

/** Go in the folder `place`, where it also installs. */
function go(place: string, args: readonly string[]): Promise<string> {
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

/** The program `name`, of these sources and this Go. Throws with the compiler's words. */
async function built(
  name: string,
  sources: readonly string[],
  build: (place: string) => Promise<string>,
): Promise<string> {
  const hash = createHash('sha256').update(goVersion())
  for (const each of sources) hash.update(each)
  const program = join(folder, `${name}-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(program)) return program
  console.log(`building ${name}: minutes, the first time`)
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
