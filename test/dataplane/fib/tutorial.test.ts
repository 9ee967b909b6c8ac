/** The tutorial's own code: short, typed, and a FIB that holds what fib.ts promises. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { seeded, seededRoutes } from '../../../dataplane/fib/columns.ts'
import type { Fib } from '../../../dataplane/fib/fib.ts'
import { loadFib } from '../../../dataplane/fib/load.ts'
import { mapOracle } from '../../../dataplane/fib/map-oracle.ts'
import { vetFib } from '../../../dataplane/fib/vet/vet.ts'
import { tutorialFib } from '../../harness/tutorial.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const MOST_LINES = 60
const limits = { routes: 64 }
let folder: string
let path: string
let fib: Fib
beforeAll(async () => {
  // Inside the package, so that the compiler finds the types as an installed hawser gives them.
  folder = mkdtempSync(join(root, 'build/tutorial-'))
  path = join(folder, 'mine.ts')
  writeFileSync(path, tutorialFib())
  fib = await loadFib(path)
})
afterAll(() => rmSync(folder, { recursive: true }))

test(`it has at most ${MOST_LINES} lines, none longer than 100 characters`, () => {
  const lines = tutorialFib().trimEnd().split('\n')
  expect(lines.length).toBeLessThanOrEqual(MOST_LINES)
  expect(lines.filter(line => line.length > 100)).toEqual([])
})

test('its types are right, under the strictest settings', () => {
  const config = { extends: join(root, 'tsconfig.json'), include: [path] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const tsc = join(root, 'node_modules/.bin/tsc')
  const { status, stdout } = spawnSync(tsc, ['--noEmit', '-p', folder], { encoding: 'utf8' })
  expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
})

test('it is found good', async () => {
  expect(await vetFib(path, { limits: { routes: 5000 } })).toMatchObject({
    name: 'mine',
    family: 4,
  })
})

test('thousands of changes down to empty, memory given back each time', () => {
  const memory = new Uint8Array(new SharedArrayBuffer(fib.bytes(limits)))
  const writer = fib.writer(memory, limits)
  const reader = fib.reader(memory, limits)
  const found = new Uint16Array(64)
  const random = seeded(5)
  for (let round = 0; round < 200; round++) {
    const oracle = mapOracle(1)
    const routes = seededRoutes(1, limits.routes, 9)
    for (let i = 0; i < routes.count; i++) {
      const address = [(routes.addresses[i]! ^ (round << 25)) >>> 0]
      const prefix = routes.prefixes[i]!
      if (prefix < 7) continue
      writer.insert(address, prefix, routes.nextHops[i]!)
      oracle.insert(address, prefix, routes.nextHops[i]!)
    }
    const addresses = Uint32Array.from({ length: 64 }, (_, i) => {
      const base = i < routes.count ? routes.addresses[i]! ^ (round << 25) : random()
      return base | (random() & 0xff)
    })
    reader.lookup(addresses, 64, found)
    expect([...found]).toEqual([...addresses].map((_, i) => oracle.lookup(addresses, i)))
    for (const { address, prefix } of [...writer.routes()]) writer.remove(address, prefix)
    expect(writer.size).toBe(0)
    reader.lookup(addresses, 64, found)
    expect(found.every(hop => hop === 0)).toBe(true)
    writer.quiesced()
  }
})

test('what is wrong is refused and changes nothing', () => {
  const memory = new Uint8Array(new SharedArrayBuffer(fib.bytes(limits)))
  const writer = fib.writer(memory, limits)
  for (const [address, prefix, hop] of [
    [0x0a00_0001, 8, 1],
    [0x0a00_0000, 33, 1],
    [0x0a00_0000, -1, 1],
    [0x0a00_0000, 8, 0],
    [0x0a00_0000, 8, 0x8000],
  ] as const) {
    expect(() => writer.insert([address], prefix, hop)).toThrow(RangeError)
  }
  for (let i = 0; i < limits.routes; i++) writer.insert([i], 32, 1)
  expect(() => writer.insert([limits.routes], 32, 1)).toThrow(RangeError)
  writer.insert([0], 32, 2)
  expect(writer.size).toBe(limits.routes)
  expect(writer.remove([limits.routes], 32)).toBe(false)
})
