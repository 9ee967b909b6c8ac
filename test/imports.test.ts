/**
 * Who may import whom in cni/ and dataplane/. The order of rooms stands in their READMEs under "Order
 * of imports": a line a level, a room imports only levels above its own. A room is a folder of the first level with all that lies in it,
 * or a file beside those folders. Types count like values; a worker's file named by a URL does not.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { describe, expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '..')
/** Files of one folder, READMEs included. */
const MOST_FILES = 15

/** Every import of every file: paths from the root of the tree. */
function importsOf(top: string): Map<string, string[]> {
  const found = new Map<string, string[]>()
  for (const entry of readdirSync(join(ROOT, top), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.ts')) continue
    const file = relative(ROOT, join(entry.parentPath, entry.name))
    const text = readFileSync(join(ROOT, file), 'utf8')
    const targets = [...text.matchAll(/(?:\bfrom|\bimport\(?)\s*'(\.{1,2}\/[^']+)'/g)]
    found.set(
      file,
      targets.map(([, target = '']) => normalize(join(dirname(file), target))),
    )
  }
  return found
}

/** The room of a file below `top`, or undefined for one that lies elsewhere. */
function roomOf(top: string, file: string): string | undefined {
  if (!file.startsWith(`${top}/`)) return undefined
  return file.slice(top.length + 1).replace(/(\/.*|\.ts)$/, '')
}

/** The section of a README under a heading of the second level. */
function section(top: string, heading: string): string {
  const text = readFileSync(join(ROOT, top, 'README.md'), 'utf8')
  const [, found] = text.split(`\n## ${heading}\n`)
  if (found === undefined) throw new Error(`${top}/README.md has no section "${heading}"`)
  return found.split('\n## ')[0] ?? ''
}

/** Room to level, as the README has them. */
function levels(top: string): Map<string, number> {
  const lines = section(top, 'Order of imports').match(/^ {4}\S.*$/gm) ?? []
  return new Map(
    lines.flatMap((line, level) =>
      line
        .trim()
        .split(/\s+/)
        .map(room => [room, level] as const),
    ),
  )
}

/** A way from a node of a graph back to itself, or undefined. */
function circle(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>()
  const way: string[] = []
  const visit = (node: string): string[] | undefined => {
    const at = way.indexOf(node)
    if (at >= 0) return [...way.slice(at), node]
    if (done.has(node)) return undefined
    way.push(node)
    for (const next of graph.get(node) ?? []) {
      const found = visit(next)
      if (found !== undefined) return found
    }
    way.pop()
    done.add(node)
    return undefined
  }
  for (const node of graph.keys()) {
    const found = visit(node)
    if (found !== undefined) return found
  }
  return undefined
}

for (const [top, outside] of [
  ['dataplane', ['native/native.ts']],
  ['cni', interfaceOfDataplane()],
] as const) {
  const imports = importsOf(top)

  describe(top, () => {
    test('a room imports only what stands above it', () => {
      const order = levels(top)
      const wrong: string[] = []
      for (const [file, targets] of imports) {
        const room = roomOf(top, file)!
        const level = order.get(room)
        if (level === undefined)
          wrong.push(`${file}: ${room} is not in the order of ${top}/README.md`)
        for (const target of targets) {
          const other = roomOf(top, target)
          if (other === undefined || other === room || level === undefined) continue
          const above = order.get(other)
          if (above !== undefined && above >= level) {
            wrong.push(`${file} imports ${target}: ${other} does not stand above ${room}`)
          }
        }
      }
      expect([...new Set(wrong)]).toEqual([])
    })

    test('no file imports itself by way of others', () => {
      expect(circle(imports)?.join(' -> ')).toBeUndefined()
    })

    test('nothing is imported from elsewhere but what may be', () => {
      const allowed: readonly string[] = outside
      const wrong = [...imports].flatMap(([file, targets]) =>
        targets
          .filter(target => roomOf(top, target) === undefined && !allowed.includes(target))
          .map(target => `${file} imports ${target}; allowed are ${allowed.join(', ')}`),
      )
      expect(wrong).toEqual([])
    })

    test(`no folder has more than ${MOST_FILES} files`, () => {
      const counts = new Map<string, number>()
      for (const entry of readdirSync(join(ROOT, top), { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue
        const folder = relative(ROOT, entry.parentPath)
        counts.set(folder, (counts.get(folder) ?? 0) + 1)
      }
      expect([...counts].filter(([, count]) => count > MOST_FILES)).toEqual([])
    })
  })
}

/** Files that dataplane/README.md links to in the table of its interface. */
function interfaceOfDataplane(): string[] {
  const table = section('dataplane', 'Order of imports').match(/^\| .*$/gm) ?? []
  const links = table.join('\n').matchAll(/\]\(([^)]+\.ts)\)/g)
  return [...links].map(([, file = '']) => `dataplane/${file}`)
}

test('the test itself sees what it must', () => {
  expect(circle(new Map(Object.entries({ a: ['b'], b: ['c'], c: ['b'], d: [] })))).toEqual([
    'b',
    'c',
    'b',
  ])
  expect(circle(new Map(Object.entries({ a: ['b', 'c'], b: ['c'], c: [] })))).toBeUndefined()
  expect(importsOf('cni').get('cni/daemon/daemon.ts')).toContain('dataplane/dataplane.ts')
  expect(interfaceOfDataplane()).toContain('dataplane/control.ts')
  expect(levels('cni').get('cli')).toBeGreaterThan(levels('cni').get('base')!)
})
