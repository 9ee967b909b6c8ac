/** FIBs from files: what is loaded, what is refused before it touches a packet, and why. */
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isFibFile } from '../../../dataplane/control.ts'
import { seededRoutes } from '../../../dataplane/fib/columns.ts'
import { fibSource, loadFib, openFib } from '../../../dataplane/fib/load.ts'
import { guarded, newTable } from '../../../dataplane/fib/table.ts'
import { vetFib } from '../../../dataplane/fib/vet/vet.ts'
import { MAX_NEXT_HOPS } from '../../../dataplane/limits.ts'

const linear = fileURLToPath(new URL('../../../dataplane/fib/linear.ts', import.meta.url))
const limits = { routes: 4096 }
let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-fib-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0
function file(text: string): string {
  const path = join(folder, `fib${++files}.ts`)
  writeFileSync(path, text)
  return path
}

/** A file with a FIB that is linear4 but for some members, given as source text. */
function variant(members: string, extra = ''): string {
  return file(
    `import { linear4 } from ${JSON.stringify(linear)}\n${extra}\n` +
      `export default { ...linear4, name: 'mine', ${members} }\n`,
  )
}

test('a name with a slash or an ending of scripts is a file', () => {
  const texts = ['dir24_8', 'mine.ts', './mine', '/opt/mine.mjs', 'trie6', 'a.js']
  expect(texts.filter(isFibFile)).toEqual(['mine.ts', './mine', '/opt/mine.mjs', 'a.js'])
})

test('a file gives its FIB, in this thread and as what another thread can open', async () => {
  const path = variant('')
  expect((await loadFib(path)).name).toBe('mine')
  const source = await fibSource(path, 4)
  expect(source).toMatchObject({ family: 4, name: 'mine', file: path })
  const fib = await openFib(structuredClone(source))
  const table = newTable(source, fib.bytes(limits), limits)
  const memory = new Uint8Array(table.buffer, table.offset, table.bytes)
  const writer = fib.writer(memory, limits)
  writer.insert([0x0a000000], 8, 7)
  const found = new Uint16Array(2)
  fib.reader(memory, limits).lookup(Uint32Array.of(0x0a010203, 0x0b000000), 2, found)
  expect([...found]).toEqual([7, 0])
  expect(await vetFib(path, { limits })).toEqual(source)
})

test('an edited file is another one; the earlier source is refused', async () => {
  const path = variant('')
  const source = await fibSource(path)
  writeFileSync(
    path,
    `${`import { linear6 } from ${JSON.stringify(linear)}`}\nexport default linear6\n`,
  )
  await expect(openFib(source)).rejects.toThrow(`${path}: it changed`)
  expect(await fibSource(path)).toMatchObject({ family: 6, name: 'linear6' })
})

test('several FIBs in a file: the family chooses', async () => {
  const both = file(`export { linear4, linear6 } from ${JSON.stringify(linear)}\n`)
  expect((await loadFib(both, 6)).name).toBe('linear6')
  await expect(loadFib(both)).rejects.toThrow('linear4 and linear6: which one?')
  await expect(loadFib(variant(''), 6)).rejects.toThrow('no FIB for IPv6 (mine is for IPv4)')
})

test('what is no FIB is refused with the reason', async () => {
  const cases: [text: string, why: string][] = [
    ['export default 1\n', 'it is no object'],
    ['export default { name: "x", family: 4, bytes() {}, writer() {} }\n', 'no method reader'],
    ['export {}\n', 'it exports nothing'],
    ['throw new Error("not today")\n', 'not today'],
    ['export default {\n', 'xpected'],
  ]
  for (const [text, why] of cases) {
    const path = file(text)
    await expect(loadFib(path), text).rejects.toThrow(why)
    await expect(loadFib(path), text).rejects.toThrow(path)
    await expect(vetFib(path, { limits }), text).rejects.toThrow(why)
  }
  const badName = variant('name: "../x"')
  await expect(loadFib(badName)).rejects.toThrow('its name is not')
  await expect(loadFib(variant('family: 5'))).rejects.toThrow('its family is neither')
  await expect(loadFib('relative/mine.ts')).rejects.toThrow('not an absolute path')
  await expect(loadFib(join(folder, 'none.ts'))).rejects.toThrow('ENOENT')
  await expect(loadFib(`${folder}/`)).rejects.toThrow('not a file')
  await expect(loadFib('dir25')).rejects.toThrow('dir25')
})

test('a file that others may write is refused', async () => {
  const open = variant('')
  chmodSync(open, 0o666)
  await expect(loadFib(open)).rejects.toThrow('others may write it')
  const strange = variant('')
  chownSync(strange, 65534, 65534)
  await expect(loadFib(strange)).rejects.toThrow('it belongs to user 65534')
})

test('a wrong answer is refused with its address', async () => {
  const path = variant(`reader(memory, limits) {
    const inner = linear4.reader(memory, limits)
    return { lookup(a, n, out) {
      inner.lookup(a, n, out)
      for (let i = 0; i < n; i++) if (a[i] >>> 24 === 1) out[i] = 99
    } }
  }`)
  await expect(vetFib(path, { limits })).rejects.toThrow(
    /filled: 1\.\d+\.\d+\.\d+ has next hop 99, the oracle says \d+/,
  )
})

test('what it does with the routes it is given is looked at, also with those taken out', async () => {
  const routes = () => seededRoutes(1, 300, 5)
  const ignoresRemove = variant(`writer(memory, limits) {
    const inner = linear4.writer(memory, limits)
    let gone = 0
    return { insert: (...a) => inner.insert(...a), quiesced() {}, routes: () => inner.routes(),
      remove() { gone++; return true }, get size() { return inner.size - gone } }
  }`)
  await expect(vetFib(ignoresRemove, { limits, routes })).rejects.toThrow(
    /with \d+ routes removed: .* has next hop/,
  )
  const lies = variant(`writer(memory, limits) {
    const inner = linear4.writer(memory, limits)
    return { insert: (...a) => inner.insert(...a), quiesced() {}, routes: () => inner.routes(),
      remove: (...a) => inner.remove(...a), size: 3 }
  }`)
  await expect(vetFib(lies, { limits, routes })).rejects.toThrow('its size is 3, not')
})

test('a file that throws, asks for too much, lacks a method, ends or never answers is refused', async () => {
  const cases: [path: string, why: RegExp][] = [
    [variant('bytes: () => 2 ** 40'), /asks for 1099511627776 bytes/],
    [variant('bytes() { throw new Error("no memory") }'), /no memory/],
    [variant('reader: () => ({})'), /the reader: it has no method lookup/],
    [variant('writer: () => undefined'), /the writer: it is no object/],
    [variant('reader: () => ({ lookup() { throw new Error("boom") } })'), /boom/],
    [variant('reader: () => ({ lookup() { process.exit(0) } })'), /ended the thread/],
    [variant('reader: () => ({ lookup() { for (;;); } })'), /no answer within 1\.5 s/],
    [file('for (;;);\n'), /no answer within 1\.5 s/],
    [file('await new Promise(() => {})\nexport {}\n'), /ended the thread|no answer/],
  ]
  for (const [path, why] of cases) {
    await expect(vetFib(path, { limits, timeoutMs: 1500 }), String(why)).rejects.toThrow(why)
  }
})

test('a guarded reader answers 0 instead of throwing, and instead of what is no next hop', () => {
  let faults = 0
  const fault = () => void faults++
  const out = Uint16Array.of(5, 5, 5)
  const boom = {
    lookup: () => {
      throw new Error('boom')
    },
  }
  guarded(boom, fault).lookup(new Uint32Array(3), 2, out)
  expect([...out]).toEqual([0, 0, 5])
  const wild = {
    lookup: (_: Uint32Array, n: number, to: Uint16Array) => void to.fill(MAX_NEXT_HOPS, 0, n),
  }
  guarded(wild, fault).lookup(new Uint32Array(3), 2, out)
  expect([...out]).toEqual([0, 0, 5])
  expect(faults).toBe(3)
})
