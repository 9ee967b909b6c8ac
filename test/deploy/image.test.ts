// The Dockerfile, as far as it can be looked at without building it: its steps name files that are
// there and that the ignore file lets through, and what it installs is all that the code imports.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, expect, test } from 'vitest'
import { run } from '../harness/processes.ts'
import { deploy } from './objects.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const steps = readFileSync(deploy('Dockerfile'), 'utf8')
  .replace(/^#.*\n/gm, '')
  .replace(/\\\n\s*/g, '')
  .split('\n')
  .filter(line => line !== '')
  .map(line => {
    const [, word, rest] = /^([A-Z]+) (.*)$/.exec(line)!
    return { word: word!, rest: rest! }
  })
const of = (word: string): string[] =>
  steps.filter(step => step.word === word).map(({ rest }) => rest)
/** Sources of COPY steps that come from the checkout. */
const copied = of('COPY')
  .filter(rest => !rest.startsWith('--from='))
  .flatMap(rest => rest.split(' ').slice(0, -1))

beforeAll(async () => {
  const found: string[] = []
  for (const builder of ['docker', 'podman', 'buildah']) {
    const { code } = await run(builder, ['info']).catch(() => ({ code: 1 }))
    if (code === 0) found.push(builder)
  }
  const why =
    found.length === 0 ? 'neither docker nor podman nor buildah works here' : 'it needs a registry'
  console.log(`the image is not built: ${why}`)
})

test('copies what is there, and what the ignore file lets through', () => {
  const [all, ...kept] = readFileSync(deploy('Dockerfile.dockerignore'), 'utf8')
    .split('\n')
    .filter(line => line !== '' && !line.startsWith('#'))
  expect(all).toBe('*')
  expect(copied.length).toBeGreaterThan(3)
  for (const source of copied) expect(existsSync(join(root, source)), source).toBe(true)
  expect(kept.sort()).toEqual(copied.map(source => `!${source}`).sort())
})

test('names only programs and files that the copied ones have', () => {
  const text = steps.map(({ rest }) => rest).join('\n')
  const named = [...text.matchAll(/\/opt\/hawser\/([^\s",:]+)/g)].map(([, path]) => path!)
  expect(named).toContain('cni/deploy/entrypoint.sh')
  for (const path of named) expect(existsSync(join(root, path)), path).toBe(true)
  expect(copied).toContain('native')
  expect(existsSync(join(root, 'native/bootstrap.mjs'))).toBe(true)
  for (const file of ['entrypoint.sh', '../bin/hawser.mjs']) {
    expect(statSync(deploy(file)).mode & 0o111, file).toBe(0o111)
  }
})

test('has the programs that the daemon calls, and the probes’ own', () => {
  const installed = of('RUN').find(rest => rest.includes('mount nftables'))!
  for (const name of ['iptables', 'mount', 'nftables']) expect(installed).toContain(` ${name}`)
  const kept = of('RUN').find(rest => rest.includes('bootstrap.mjs'))!
  expect(kept).toContain('build/Release/hawser-hasty')
  expect(kept).not.toMatch(/build\/Release\/hawser( |$)/)
})

test('says that the packages are there, in the words of bootstrap.mjs', () => {
  const install = of('RUN').find(rest => rest.startsWith('npm ci'))!
  expect(install).toContain('--omit=dev')
  const stamp = /touch (\S+)/.exec(install)![1]!
  expect(readFileSync(join(root, 'native/bootstrap.mjs'), 'utf8')).toContain(`'${stamp}'`)
})

test('has every package that the copied code imports', () => {
  const { dependencies, optionalDependencies } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  ) as Record<string, Record<string, string>>
  const installed = Object.keys({ ...dependencies, ...optionalDependencies })
  const files = ['native', 'dataplane', 'cni'].flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter(name => /\.(ts|mjs)$/.test(name))
      .map(name => join(folder, name)),
  )
  expect(files.length).toBeGreaterThan(100)
  const missing = files.flatMap(file => {
    const text = readFileSync(join(root, file), 'utf8')
    return [...text.matchAll(/^(?:(?:import|export)\b.*|\}) from '([^'.][^']*)'/gm)]
      .map(([, module]) => module!)
      .filter(module => !isBuiltin(module) && !installed.includes(packageOf(module)))
      .map(module => `${file}: ${module}`)
  })
  expect(missing).toEqual([])
})

function packageOf(module: string): string {
  return module
    .split('/')
    .slice(0, module.startsWith('@') ? 2 : 1)
    .join('/')
}
