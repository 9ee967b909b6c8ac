/** `npm run bench -- compare A.json B.json`: tables on stdout, the answer in the exit code. */
import { type Document, readDocument } from '../harness/document.ts'
import { significant } from '../harness/statistics.ts'
import { progress } from '../harness/suite.ts'
import { format, grouped } from '../harness/table.ts'
import { ALPHA, type Change, type Comparison, compare, MARGIN, obstacles } from './compare.ts'

/** Exit codes. */
export const NOTHING_WORSE = 0
export const SOMETHING_WORSE = 1
export const NOT_COMPARABLE = 2

/** Compares the files and returns the exit code. `print` takes the text. */
export function compareFiles(
  before: string,
  after: string,
  margin: number = MARGIN,
  print: (text: string) => void = text => process.stdout.write(text),
): number {
  let a: Document
  let b: Document
  try {
    a = readDocument(before)
    b = readDocument(after)
    const reasons = obstacles(a, b)
    if (reasons.length > 0) throw new Error(`not comparable: ${reasons.join('; ')}`)
  } catch (error) {
    progress(`bench compare: ${error instanceof Error ? error.message : error}`)
    return NOT_COMPARABLE
  }
  const comparison = compare(a, b, margin)
  print(describe(comparison, margin))
  const worse = comparison.changes.some(({ verdict }) => verdict === 'worse')
  return worse ? SOMETHING_WORSE : NOTHING_WORSE
}

/** The text of a comparison: what changed first, then how many did not. */
export function describe(comparison: Comparison, margin: number): string {
  const { changes, onlyBefore, onlyAfter, warnings } = comparison
  const blocks: string[] = warnings.map(warning => `warning: ${warning}\n`)
  for (const verdict of ['worse', 'better', 'changed', 'undecided'] as const) {
    const of = changes.filter(change => change.verdict === verdict)
    if (of.length === 0) continue
    of.sort((x, y) => distance(y) - distance(x))
    const head = ['suite, quantity', 'unit', 'before', 'after', 'change', 'p']
    blocks.push(format({ title: `${verdict}: ${of.length}`, head, rows: of.map(row) }))
  }
  const same = changes.filter(({ verdict }) => verdict === 'same').length
  blocks.push(`the same: ${same} of ${changes.length} quantities\n`)
  for (const [label, names] of [
    ['only before', onlyBefore],
    ['only after', onlyAfter],
  ] as const) {
    if (names.length > 0) blocks.push(`${label}: ${names.join(', ')}\n`)
  }
  blocks.push(
    `A change: Mann-Whitney p <= ${ALPHA}, and medians that differ by more than ` +
      `${significant(100 * margin)} %; bytes: any difference.\n`,
  )
  return blocks.join('\n')
}

const distance = ({ ratio }: Change): number => Math.abs(Math.log(ratio))

function row({ suite, name, unit, before, after, ratio, p }: Change): string[] {
  const percent = `${ratio >= 1 ? '+' : ''}${grouped((ratio - 1) * 100, 1)} %`
  const number = (value: number) => significant(value).toLocaleString('en-US')
  const probability = p === undefined ? 'exact' : p.toFixed(4)
  return [`${suite} ${name}`, unit, number(before), number(after), percent, probability]
}
