import { describe, expect, test } from 'vitest'
import { type Case, matches, plan } from '../../cni/conformance/case.ts'
import { jsonReport, junitReport, showReport } from '../../cni/conformance/report.ts'
import type { Outcome, Report } from '../../cni/conformance/runner.ts'

const outcome = (more: Partial<Outcome>): Outcome => ({
  id: '15-del-twice',
  name: 'a second DEL succeeds',
  specVersion: '1.0.0',
  verdict: 'passed',
  why: 'it succeeded',
  ms: 1_500,
  ...more,
})
const REPORT: Report = {
  plugin: '/opt/cni/bin/x',
  versions: ['0.3.1', '0.4.0', '1.0.0'],
  passed: 2,
  failed: 1,
  skipped: 1,
  cases: [
    outcome({ specVersion: '0.3.1' }),
    outcome({ specVersion: '0.4.0', verdict: 'failed', why: 'code 999, "<no> & \'such\' \u0001"' }),
    outcome({}),
    outcome({ id: '16-dead-del', verdict: 'skipped', why: 'no daemon' }),
  ],
}

describe('reports', () => {
  test('the table has a row for each case and verdict, with its versions', () => {
    const lines = showReport(REPORT).split('\n')
    expect(lines.slice(1, 4).map(line => line.split(/\s{2,}/))).toEqual([
      ['passed', '15-del-twice', '0.3.1 1.0.0', 'it succeeded'],
      ['failed', '15-del-twice', '0.4.0', `code 999, "<no> & 'such' ?"`],
      ['skipped', '16-dead-del', '1.0.0', 'no daemon'],
    ])
    expect(lines.at(-1)).toBe('/opt/cni/bin/x: 2 passed, 1 failed, 1 skipped')
  })

  test('versions that follow each other are a span', () => {
    const cases = REPORT.versions.map(specVersion => outcome({ specVersion }))
    expect(showReport({ ...REPORT, cases })).toContain('0.3.1 .. 1.0.0')
  })

  test('the JSON document', () => {
    expect(jsonReport(REPORT)).toEqual({
      ...{ plugin: '/opt/cni/bin/x', passed: 2, failed: 1, skipped: 1 },
      cases: REPORT.cases.map(({ ms: _, ...rest }) => rest),
    })
  })

  test('JUnit: a suite for each version, text escaped, nothing that XML can not hold', () => {
    expect(junitReport(REPORT)).toBe(`<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="hawser conformance" tests="4" failures="1" skipped="1" time="6.000">
<testsuite name="/opt/cni/bin/x 0.3.1" tests="1" failures="0" skipped="0" time="1.500">
<testcase name="15-del-twice: a second DEL succeeds" classname="cni.0.3.1" time="1.500">
<system-out>
it succeeded
</system-out>
</testcase>
</testsuite>
<testsuite name="/opt/cni/bin/x 0.4.0" tests="1" failures="1" skipped="0" time="1.500">
<testcase name="15-del-twice: a second DEL succeeds" classname="cni.0.4.0" time="1.500">
<failure message="code 999, &quot;&lt;no&gt; &amp; &apos;such&apos; ?&quot;"/>
</testcase>
</testsuite>
<testsuite name="/opt/cni/bin/x 1.0.0" tests="2" failures="0" skipped="1" time="3.000">
<testcase name="15-del-twice: a second DEL succeeds" classname="cni.1.0.0" time="1.500">
<system-out>
it succeeded
</system-out>
</testcase>
<testcase name="16-dead-del: a second DEL succeeds" classname="cni.1.0.0" time="1.500">
<skipped message="no daemon"/>
</testcase>
</testsuite>
</testsuites>
`)
  })
})

describe('the plan', () => {
  const run = async () => ''
  const cases: Case[] = [
    { id: '1-each', name: '', runs: 'each', run },
    { id: '2-since', name: '', runs: 'each', since: '0.4.0', run },
    { id: '3-until', name: '', runs: 'each', until: '0.3.1', run },
    { id: '4-once', name: '', runs: 'once', run },
    { id: '5-unlisted', name: '', runs: 'unlisted', run },
    { id: '6-never', name: '', runs: 'each', since: '1.1.0', run },
  ]
  const planned = plan(cases, ['0.3.1', '0.4.0', '1.0.0'], ['1.1.0'])
  const names = planned.map(each => `${each.case.id}@${each.version}`)

  test('a case does not exist in versions that lack what it tries', () => {
    expect(names).toEqual([
      ...['1-each@0.3.1', '1-each@0.4.0', '1-each@1.0.0'],
      ...['2-since@0.4.0', '2-since@1.0.0', '3-until@0.3.1', '4-once@1.0.0', '5-unlisted@1.1.0'],
    ])
  })

  test.each([
    ['each', 3],
    ['*', 8],
    ['1-each@0.4.0', 1],
    ['@1.0.0', 3],
    ['*each', 0],
    ['*each*,*@1.1.0', 4],
    ['1*each@1*', 1],
    ['1*1-each@1.0.0', 0],
    ['*e*e*e*e*e*e*e*e*e*e*x', 0],
    [' once , since ', 3],
    ['', 0],
  ])('the pattern %j chooses %d', (pattern, count) => {
    expect(planned.filter(each => matches(pattern, each))).toHaveLength(count)
  })
})
