// The fib suite in its quick form: what a document holds, files of the user's, and that a FIB which
// answers wrongly is never measured.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import type { FibSamples } from '../../../bench/fib/report.ts'
import { fib } from '../../../bench/fib/suite.ts'
import { KINDS } from '../../../bench/fib/traces.ts'
import { takeDisturbances } from '../../../bench/harness/watch.ts'
import { defaultFib } from '../../../dataplane/fib/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'hawser-test-'))
afterAll(() => rmSync(folder, { recursive: true }))
const source = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url))
const quick = { quick: true, rounds: 3, seconds: 0.001 }
const FOUR = defaultFib(4)
const SIX = defaultFib(6)

function write(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text, { mode: 0o644 })
  return path
}

/** A FIB in a file: the linear one under a name of its own, or one that answers one too many. */
function fibFile(name: string, wrong: boolean): string {
  const answer = wrong ? 'for (let i = 0; i < n; i++) nextHops[i]++' : ''
  return write(
    `${name}.ts`,
    `import { linear4 } from ${JSON.stringify(source('dataplane/fib/linear.ts'))}
export default {
  ...linear4,
  name: ${JSON.stringify(name)},
  reader(memory: Uint8Array, limits: { routes: number }) {
    const reader = linear4.reader(memory, limits)
    return {
      lookup(addresses: Uint32Array, n: number, nextHops: Uint16Array) {
        reader.lookup(addresses, n, nextHops)
        ${answer}
      },
    }
  },
}
`,
  )
}

describe('generated tables', () => {
  test('every trace of every size, costs, and the update rate of the largest', async () => {
    takeDisturbances()
    const report = await fib.run({ ...quick, only: [FOUR, SIX, 'linear4'] })
    const { lookups, tables } = report.samples as unknown as FibSamples
    const kinds = KINDS.filter(kind => kind !== 'file')
    expect(new Set(lookups.map(row => `${row.contender} ${row.table} ${row.trace}`))).toEqual(
      new Set(
        [FOUR, SIX, 'linear4'].flatMap(name =>
          ['1', '1k'].flatMap(size => kinds.map(kind => `${name} ${size} ${kind}`)),
        ),
      ),
    )
    for (const { perSecond } of lookups) {
      expect(perSecond).toHaveLength(3)
      expect(Math.min(...perSecond)).toBeGreaterThan(0)
    }
    for (const row of tables) {
      expect(row.buildMs[0]).toBeGreaterThan(0)
      expect(row.usedBytes).toBeLessThanOrEqual(Math.ceil(row.bytes! / 4096) * 4096)
      const updated = row.table === '1k' && row.sort !== 'oracle'
      expect(row.updatesPerSecond?.length).toBe(updated ? 3 : undefined)
    }
    expect(report.quantities?.[`${FOUR} IPv4 1k zipf`]).toMatchObject({
      unit: 'lookups/s',
      better: 'higher',
    })
    expect(report.quantities?.[`${SIX} IPv6 1k memory`]?.exact).toBe(true)
    expect(report.quantities?.[`${SIX} IPv6 1k updates`]?.samples).toHaveLength(3)
    expect(report.tables.map(table => table.rows.length)).toEqual([4, 2])
    expect(Object.keys(takeDisturbances())).toContain(`${FOUR} IPv4 1k dependent`)
  })

  test('a contender that is not there is an error', async () => {
    await expect(fib.run({ ...quick, only: ['nothing'] })).rejects.toThrow(/nothing: unknown/)
  })
})

describe('the user’s files', () => {
  test('routes and addresses: both families, refused lines told, nothing generated', async () => {
    const routes = write('routes', '10.0.0.0/8\n10.1.0.0/16 7\nnonsense\n2001:db8::/32 9\n')
    const trace = write('trace', '10.1.2.3\n10.200.0.1\n192.0.2.1\n2001:db8::1\nwhat\n')
    const report = await fib.run({ ...quick, only: [FOUR, SIX], routes, trace })
    const { lookups } = report.samples as unknown as FibSamples
    expect(new Set(lookups.map(row => `${row.contender} ${row.table} ${row.routes}`))).toEqual(
      new Set([`${FOUR} file 2`, `${SIX} file 1`]),
    )
    expect(lookups.filter(row => row.trace === 'file')).toHaveLength(2)
    const notes = report.notes.join('\n')
    expect(notes).toContain(`${routes}: 3 lines taken, 1 refused\n  line 3: "nonsense": no prefix`)
    expect(notes).toContain(`${trace}: 4 lines taken, 1 refused`)
  })

  test('a file without a route is an error', async () => {
    const routes = write('none', '# nothing\n')
    await expect(fib.run({ ...quick, routes })).rejects.toThrow('no route')
  })

  test('a FIB runs beside the built-in ones of its family', async () => {
    const file = fibFile('mine', false)
    const routes = write('few', '10.0.0.0/8\n10.1.0.0/16\n10.1.1.0/24\n')
    const report = await fib.run({ ...quick, only: [FOUR], routes, file })
    const { lookups, tables } = report.samples as unknown as FibSamples
    expect(new Set(lookups.map(row => row.contender))).toEqual(new Set([FOUR, 'mine']))
    expect(tables.find(row => row.contender === 'mine')).toMatchObject({ sort: 'yours', family: 4 })
    expect(tables.find(row => row.contender === 'mine')?.updatesPerSecond).toHaveLength(3)
  })

  test('a FIB that answers wrongly is not measured', async () => {
    const routes = write('one', '10.0.0.0/8 5\n')
    const run = fib.run({ ...quick, only: [FOUR], routes, file: fibFile('wrong', true) })
    await expect(run).rejects.toThrow(/wrong, anywhere: \d+ has next hop \d+, not \d+/)
  })

  test('a file without a FIB is refused with the reason', async () => {
    const file = write('empty.ts', 'export const nothing = 1\n')
    await expect(fib.run({ ...quick, file })).rejects.toThrow(/empty\.ts: exports no FIB/)
  })
})
