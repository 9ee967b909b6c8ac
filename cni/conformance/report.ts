/** Reports of a run: a table for people, one JSON document, JUnit XML for build servers. */
import { type Cell, table } from '../base/table.ts'
import type { Outcome, Report } from './runner.ts'
import type { SpecVersion } from './versions.ts'

/** Characters of a sentence in the table. */
const SHOWN = 110

/** A row for each case and verdict, with the versions that had it; the totals below. */
export function showReport(report: Report): string {
  const rows = new Map<string, { first: Outcome; versions: SpecVersion[] }>()
  for (const each of report.cases) {
    const key = `${each.id} ${each.verdict}`
    const row = rows.get(key) ?? { first: each, versions: [] }
    row.versions.push(each.specVersion)
    rows.set(key, row)
  }
  const cells = [...rows.values()].map(({ first, versions }): Cell[] => [
    first.verdict,
    first.id,
    spanOf(versions, report.versions),
    first.why.length > SHOWN ? `${first.why.slice(0, SHOWN - 1)}…` : first.why,
  ])
  const totals = `${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`
  return `${table(['VERDICT', 'CASE', 'VERSIONS', 'SEEN'], cells)}\n\n${report.plugin}: ${totals}`
}

/** `0.3.0 .. 1.1.0` for versions that follow each other, else all of them. */
function spanOf(versions: readonly SpecVersion[], listed: readonly SpecVersion[]): string {
  const from = listed.indexOf(versions[0]!)
  const follow = from >= 0 && versions.every((version, k) => listed[from + k] === version)
  return follow && versions.length > 1 ? `${versions[0]} .. ${versions.at(-1)}` : versions.join(' ')
}

/** The document of `--json`. */
export function jsonReport({ plugin, passed, failed, skipped, cases }: Report): object {
  return {
    ...{ plugin, passed, failed, skipped },
    cases: cases.map(({ id, name, specVersion, verdict, why }) => ({
      ...{ id, name, specVersion, verdict, why },
    })),
  }
}

/** One test suite for each version, one test case for each outcome; times in seconds. */
export function junitReport(report: Report): string {
  const versions = [...new Set(report.cases.map(each => each.specVersion))].sort()
  const suites = versions.map(version => {
    const cases = report.cases.filter(each => each.specVersion === version)
    const name = `${report.plugin} ${version}`
    return element('testsuite', { name, ...countsOf(cases) }, cases.map(junitCase).join(''))
  })
  const all = { name: 'hawser conformance', ...countsOf(report.cases) }
  return `<?xml version="1.0" encoding="UTF-8"?>\n${element('testsuites', all, suites.join(''))}`
}

function junitCase({ id, name, specVersion, verdict, why, ms }: Outcome): string {
  const facts = { name: `${id}: ${name}`, classname: `cni.${specVersion}`, time: inSeconds(ms) }
  if (verdict === 'failed') {
    return element('testcase', facts, element('failure', { message: why }, ''))
  }
  if (verdict === 'skipped') {
    return element('testcase', facts, element('skipped', { message: why }, ''))
  }
  return element('testcase', facts, element('system-out', {}, escaped(why)))
}

function countsOf(cases: readonly Outcome[]): Record<string, string | number> {
  const count = (verdict: Outcome['verdict']): number =>
    cases.filter(each => each.verdict === verdict).length
  const ms = cases.reduce((sum, each) => sum + each.ms, 0)
  return {
    tests: cases.length,
    failures: count('failed'),
    skipped: count('skipped'),
    time: inSeconds(ms),
  }
}

function inSeconds(ms: number): string {
  return (ms / 1000).toFixed(3)
}

function element(name: string, attributes: object, content: string): string {
  const pairs = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(`${value}`)}"`)
  const opened = `<${name}${pairs.join('')}`
  return content === '' ? `${opened}/>\n` : `${opened}>\n${content.trimEnd()}\n</${name}>\n`
}

/** Text that may stand in XML 1.0: escaped, and without the characters that it can't hold. */
function escaped(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '?')
    .replace(/[&<>"']/g, character => ENTITIES[character]!)
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
}
