/**
 * The kubelet, built from the Go module k8s.io/kubernetes as go.mod and go.sum here pin it. The result
 * lies in build/kubernetes and is used again until one of them, or Go, changes; a cold build takes
 * minutes, a later one uses Go's own cache.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { must } from '../harness/processes.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const folder = fileURLToPath(new URL('../../build/kubernetes', import.meta.url))
/** What go.mod asks for: 1.MINOR. */
const GO_MINOR = 24

function goVersion(): string {
  return spawnSync('go', ['version'], { encoding: 'utf8', cwd: here }).stdout ?? ''
}

/** Why no kubelet can be built here; undefined when one can. Prints it: a skipped test says why. */
export function goProblem(): string | undefined {
  const minor = Number(/go1\.(\d+)/.exec(goVersion())?.[1] ?? 0)
  if (minor >= GO_MINOR) return undefined
  const reason =
    minor === 0
      ? 'go is missing: the kubelet is built from source'
      : `go 1.${minor} is too old to build the kubelet (1.${GO_MINOR} or newer)`
  console.log(`skipped: ${reason}`)
  return reason
}

/** Path of the kubelet; built when there is none of these sources. Throws with the compiler's words. */
export async function kubelet(): Promise<string> {
  const binary = join(folder, 'kubelet')
  const stamp = join(folder, 'kubelet.stamp')
  const hash = createHash('sha256').update(goVersion())
  for (const file of ['go.mod', 'go.sum']) hash.update(readFileSync(join(here, file)))
  const wanted = hash.digest('hex')
  const there = existsSync(stamp) ? readFileSync(stamp, 'utf8') : ''
  if (existsSync(binary) && there === wanted) return binary
  console.log('building the kubelet: minutes, the first time')
  mkdirSync(folder, { recursive: true })
  for (const file of ['go.mod', 'go.sum']) copyFileSync(join(here, file), join(folder, file))
  const fresh = `${binary}.new`
  const flags = ['-trimpath', '-ldflags=-s -w', '-o', fresh]
  await must('go', ['build', ...flags, 'k8s.io/kubernetes/cmd/kubelet'], {
    cwd: folder,
    env: {
      ...(process.env as Record<string, string>),
      GOFLAGS: '-mod=mod -buildvcs=false',
      GOTOOLCHAIN: 'local',
      CGO_ENABLED: '0',
    },
  })
  renameSync(fresh, binary)
  writeFileSync(stamp, wanted)
  return binary
}
