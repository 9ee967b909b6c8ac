/**
 * The images of the tests, made here: `agent` (agent.cc), compiled statically, and `pause`, the same
 * program as a sandbox's first process. One OCI archive (image-spec 1.0, "Image Layout") holds both.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { must } from '../harness/processes.ts'

export const PAUSE_IMAGE = 'hawser.test/pause:1'
export const AGENT_IMAGE = 'hawser.test/agent:1'

const source = fileURLToPath(new URL('agent.cc', import.meta.url))
const script = fileURLToPath(import.meta.url)
const folder = fileURLToPath(new URL('../../build/containerd', import.meta.url))
/** The agent as a program of the test's own side. */
export const AGENT = join(folder, 'agent')
const archive = join(folder, 'images.tar')

interface Descriptor {
  mediaType: string
  digest: string
  size: number
  annotations?: Record<string, string>
}

/** Path of the archive for `ctr images import`; made when it is missing or older than its sources. */
export async function images(): Promise<string> {
  const newest = Math.max(statSync(source).mtimeMs, statSync(script).mtimeMs)
  const fresh = (path: string) => existsSync(path) && statSync(path).mtimeMs >= newest
  if (fresh(AGENT) && fresh(archive)) return archive
  mkdirSync(folder, { recursive: true })
  // Test files run side by side: each makes its own, the last rename stays.
  const work = mkdtempSync(join(folder, 'new-'))
  try {
    const agent = join(work, 'agent')
    const warnings = ['-Wall', '-Wextra', '-Wpedantic', '-Wshadow', '-Werror']
    await must('g++', ['-std=c++20', '-O2', '-static', ...warnings, '-o', agent, source])
    const layout = join(work, 'layout')
    await writeLayout(layout, agent)
    await must('tar', ['-C', layout, '-cf', join(work, 'images.tar'), '.'])
    renameSync(agent, AGENT)
    renameSync(join(work, 'images.tar'), archive)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return archive
}

async function writeLayout(layout: string, agent: string): Promise<void> {
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true })
  const blob = async (mediaType: string, data: Buffer): Promise<Descriptor> => {
    const hex = createHash('sha256').update(data).digest('hex')
    await writeFile(join(layout, 'blobs/sha256', hex), data)
    return { mediaType, digest: `sha256:${hex}`, size: data.length }
  }
  const json = (type: string, value: object) =>
    blob(`application/vnd.oci.image.${type}.v1+json`, Buffer.from(JSON.stringify(value)))

  const files = join(layout, '../files')
  mkdirSync(files)
  await copyFile(agent, join(files, 'agent'))
  const same = ['--mtime=@0', '--owner=0', '--group=0', '--numeric-owner']
  await must('tar', ['-C', files, ...same, '-cf', join(files, '../layer.tar'), 'agent'])
  const layer = await blob(
    'application/vnd.oci.image.layer.v1.tar',
    await readFile(join(files, '../layer.tar')),
  )
  const image = async (name: string, entrypoint: string[]): Promise<Descriptor> => {
    const config = await json('config', {
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Entrypoint: entrypoint },
      rootfs: { type: 'layers', diff_ids: [layer.digest] },
    })
    const manifest = await json('manifest', {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config,
      layers: [layer],
    })
    // containerd knows an image of an archive by the first, podman by the second.
    const names = { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name }
    return { ...manifest, annotations: names }
  }
  const manifests = [
    await image(PAUSE_IMAGE, ['/agent', 'pause']),
    await image(AGENT_IMAGE, ['/agent', 'serve', '8080', 'agent']),
  ]
  await writeFile(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }))
  await writeFile(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
}
