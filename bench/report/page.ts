/**
 * The report: one HTML file that needs nothing else, made from JSON documents of runs. The same
 * documents make the same bytes.
 */
import type { FibSamples } from '../fib/report.ts'
import { barText, holds } from '../harness/bars.ts'
import type { Document } from '../harness/document.ts'
import { fibCharts } from './fib.ts'
import { el, Markup } from './markup.ts'
import { short, withUnit } from './scale.ts'
import { STYLE } from './style.ts'
import { disturbances, quantityTable, suiteCharts, table } from './suites.ts'

/** The page's text. A chapter a document. Throws for none. */
export function page(documents: readonly Document[]): string {
  if (documents.length === 0) throw new Error('a report of no documents')
  const html = el(
    'html',
    { lang: 'en', xmlns: 'http://www.w3.org/1999/xhtml' },
    el(
      'head',
      {},
      el('meta', { charset: 'utf-8' }),
      el('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }),
      el('meta', {
        'http-equiv': 'Content-Security-Policy',
        content: "default-src 'none'; style-src 'unsafe-inline'",
      }),
      el('title', {}, 'hawser bench'),
      // Not text that a browser would unescape.
      el('style', {}, new Markup(STYLE)),
    ),
    el(
      'body',
      {},
      el(
        'main',
        {},
        el('h1', {}, 'hawser bench'),
        documents.map((document, i) => chapter(document, documents.length > 1 ? i + 1 : undefined)),
      ),
    ),
  )
  return `<!DOCTYPE html>\n${html.text}\n`
}

function chapter(document: Document, number: number | undefined): Markup {
  const { machine, commit, began, quick, quantities, failed = {} } = document
  const prefix = number === undefined ? '' : `${number}-`
  const version = commit
    ? `${commit.hash.slice(0, 12)}${commit.dirty ? ', dirty' : ''}`
    : 'no commit'
  const suites = Object.keys(quantities)
  return el(
    'section',
    {},
    number === undefined ? undefined : el('h2', {}, `Run ${number}`),
    el(
      'p',
      { class: 'facts' },
      `${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}, Node ${machine.node}; ` +
        `${version}; ${began.slice(0, 16).replace('T', ' ')} UTC`,
    ),
    quick ? el('p', { class: 'warning' }, 'A quick run: its figures mean nothing.') : undefined,
    Object.entries(failed).map(([suite, why]) =>
      el('p', { class: 'warning' }, `${suite}: no result: ${why}`),
    ),
    el(
      'nav',
      {},
      suites.map(suite => el('a', { href: `#${prefix}${suite}` }, suite)),
    ),
    ratios(document),
    suites.map(suite => suiteSection(document, suite, prefix)),
  )
}

function ratios(document: Document): Markup | undefined {
  const rows = [
    ...Object.entries(document.ratios).map(([name, value]) => ({ name, value, unit: '' })),
    ...Object.entries(document.figures).map(([name, { value, unit }]) => ({ name, value, unit })),
  ]
  if (rows.length === 0) return undefined
  // What is held to a bar comes first.
  const weight = (name: string) => (name in document.bars ? 0 : 1)
  rows.sort((a, b) => weight(a.name) - weight(b.name))
  const cells = rows.map(({ name, value, unit }) => {
    const bar = document.bars[name]
    const kept = bar && holds(bar, value)
    return el(
      'tr',
      {},
      el('td', {}, name),
      el('td', {}, unit === '' ? `${short(value)} ×` : withUnit(value, unit)),
      el('td', {}, bar ? barText(bar) : ''),
      bar
        ? el('td', { class: kept ? 'holds' : 'missed' }, kept ? '✓ holds' : '✗ missed')
        : el('td', {}),
    )
  })
  return el(
    'section',
    {},
    el('h2', {}, 'Ratios and figures'),
    el(
      'p',
      { class: 'about' },
      'Ratios compare what took turns in the same run: medians of the rounds’ own ratios.',
    ),
    table(['name', 'value', 'bar', ''], cells),
  )
}

function suiteSection(document: Document, suite: string, prefix: string): Markup {
  const quantities = document.quantities[suite]!
  const notes = document.notes[suite] ?? []
  const charts =
    suite === 'fib' ? fibCharts(document.samples[suite] as FibSamples) : suiteCharts(quantities)
  return el(
    'section',
    { id: `${prefix}${suite}` },
    el('h2', {}, suite),
    charts,
    el(
      'ul',
      { class: 'notes' },
      notes.map(note => el('li', {}, note)),
    ),
    disturbances(document.disturbances[suite]),
    quantityTable(quantities),
  )
}
