/**
 * Two charts as SVG, both with logarithmic axes: lines over a size, and dots in rows. Points carry
 * their numbers as tooltips (`title`). Colours are classes of style.ts, so that light and dark differ
 * in the style sheet alone.
 */
import { el, type Markup } from './markup.ts'
import { logScale, short, withUnit } from './scale.ts'

/** How a series looks: hue by what it is made from, shape and dashes by what kind it is. */
export interface Look {
  /** 0 .. HUES - 1. */
  hue: number
  shape: 'circle' | 'square' | 'diamond' | 'triangle'
  dash?: string
}

export interface Point {
  x: number
  y: number
  /** Quartiles. */
  low: number
  high: number
  title: string
}

export interface Series {
  name: string
  look: Look
  points: readonly Point[]
}

/** A value that everything is held to. */
export interface Limit {
  value: number
  label: string
}

export interface LineChart {
  title: string
  unit: string
  /** Values of x that get a label. */
  ticks: readonly { x: number; label: string }[]
  series: readonly Series[]
}

const RADIUS = 4
const LINES = { width: 560, height: 340, left: 58, right: 16, top: 30, bottom: 46 }

export function lineChart({ title, unit, ticks, series }: LineChart): Markup {
  const { width, height, left, right, top, bottom } = LINES
  const xs = logScale(
    ticks.map(tick => tick.x),
    left,
    width - right,
  )
  const values = series.flatMap(({ points }) => points.flatMap(({ low, high }) => [low, high]))
  const ys = logScale(values, height - bottom, top)
  const grid = [
    ...ys.minor.map(y => rule('minor', left, ys.at(y), width - right, ys.at(y))),
    ...ys.major.flatMap(y => [
      rule('major', left, ys.at(y), width - right, ys.at(y)),
      label(short(y), left - 6, ys.at(y) + 4, 'end'),
    ]),
    ...tickLabels(ticks.map(({ x, label: text }) => ({ at: xs.at(x), text }))).flatMap(
      ({ at, text, level }) => [
        rule('minor', at, top, at, height - bottom),
        label(text, at, height - bottom + 16 + 13 * level, 'middle'),
      ],
    ),
  ]
  const drawn = series.map(({ name, look, points }) => {
    const sorted = points.toSorted((a, b) => a.x - b.x)
    const d = sorted.map(
      ({ x, y }, i) => `${i === 0 ? 'M' : 'L'}${round(xs.at(x))} ${round(ys.at(y))}`,
    )
    const dash = look.dash
    return el(
      'g',
      { class: `hue${look.hue}` },
      el(
        'path',
        { class: 'line', d: d.join(' '), 'stroke-dasharray': dash },
        el('title', {}, name),
      ),
      sorted.map(({ x, y, title: text }) => mark(look, xs.at(x), ys.at(y), text)),
    )
  })
  return el(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${title}, ${unit}` },
    el(
      'text',
      { class: 'title', x: left, y: 16 },
      title,
      el('tspan', { class: 'unit' }, `  ${unit}`),
    ),
    grid,
    drawn,
  )
}

/** Pixels between two labels of one line. */
const LABEL_ROOM = 34

/** Labels too close to the one before them go one line down. */
function tickLabels(ticks: readonly { at: number; text: string }[]) {
  let last = -Infinity
  return ticks
    .toSorted((a, b) => a.at - b.at)
    .map(({ at, text }) => {
      const level = at - last < LABEL_ROOM ? 1 : 0
      if (level === 0) last = at
      return { at, text, level }
    })
}

/** One row of dots: a value for each series that has one. */
export interface Row {
  name: string
  dots: readonly { look: Look; y: number; low: number; high: number; title: string }[]
}

export interface DotChart {
  title: string
  unit: string
  rows: readonly Row[]
  limit?: Limit
}

const DOTS = { width: 860, row: 20, top: 52, bottom: 12, right: 24, letter: 6.6, least: 90 }
/** Pixels between the dots of one row, which lie below each other. */
const DOT_STEP = 8

const rowHeight = ({ dots }: Row): number => Math.max(DOTS.row, (dots.length + 1) * DOT_STEP)

export function dotChart({ title, unit, rows, limit }: DotChart): Markup {
  const { width, top, bottom, right, letter, least } = DOTS
  const longest = Math.max(...rows.map(({ name }) => name.length))
  const left = Math.min(width / 2, Math.max(least, longest * letter + 14))
  const height = top + rows.reduce((sum, row) => sum + rowHeight(row), 0) + bottom
  const values = rows.flatMap(({ dots }) => dots.flatMap(({ low, high }) => [low, high]))
  const xs = logScale(limit ? [...values, limit.value] : values, left, width - right, unit)
  const line = (value: number, kind: string) =>
    rule(kind, xs.at(value), top - 6, xs.at(value), height - bottom)
  const grid = [
    ...xs.minor.map(x => line(x, 'minor')),
    ...xs.major.flatMap(x => [
      line(x, 'major'),
      label(tickText(x, unit), xs.at(x), top - 11, 'middle'),
    ]),
  ]
  const bar = limit && [
    line(limit.value, 'limit'),
    el(
      'text',
      { class: 'limit', x: xs.at(limit.value), y: height - 1, 'text-anchor': 'middle' },
      limit.label,
    ),
  ]
  const bands: Markup[] = []
  const marks: Markup[] = []
  let y = top
  for (const [i, row] of rows.entries()) {
    const tall = rowHeight(row)
    if (i % 2 === 0) bands.push(el('rect', { class: 'band', x: 0, y, width, height: tall }))
    marks.push(label(row.name, left - 10, y + tall / 2 + 4, 'end', 'name'))
    for (const [k, dot] of row.dots.entries()) {
      const at = y + ((k + 1) * tall) / (row.dots.length + 1)
      const whisker = rule('whisker', xs.at(dot.low), at, xs.at(dot.high), at)
      const drawn = mark(dot.look, xs.at(dot.y), at, dot.title)
      marks.push(el('g', { class: `hue${dot.look.hue}` }, whisker, drawn))
    }
    y += tall
  }
  return el(
    'svg',
    {
      viewBox: `0 0 ${width} ${height + (limit ? 12 : 0)}`,
      role: 'img',
      'aria-label': `${title}, ${unit}`,
    },
    el('text', { class: 'title', x: 0, y: 16 }, title, el('tspan', { class: 'unit' }, `  ${unit}`)),
    bands,
    grid,
    bar,
    marks,
  )
}

function tickText(value: number, unit: string): string {
  return unit === 'bytes' ? withUnit(value, unit) : short(value)
}

/** A legend's sample of a look. */
export function swatch(look: Look): Markup {
  return el(
    'svg',
    { class: 'swatch', viewBox: '0 0 28 12', 'aria-hidden': 'true' },
    el(
      'g',
      { class: `hue${look.hue}` },
      el('path', { class: 'line', d: 'M1 6 L27 6', 'stroke-dasharray': look.dash }),
      mark(look, 14, 6),
    ),
  )
}

function mark({ shape }: Look, x: number, y: number, text?: string): Markup {
  const title = text === undefined ? undefined : el('title', {}, text)
  const r = RADIUS
  const polygon = (...points: [number, number][]) =>
    el(
      'polygon',
      {
        class: 'mark',
        points: points.map(([dx, dy]) => `${round(x + dx)},${round(y + dy)}`).join(' '),
      },
      title,
    )
  switch (shape) {
    case 'circle':
      return el('circle', { class: 'mark', cx: x, cy: y, r }, title)
    case 'square':
      return polygon([-r, -r], [r, -r], [r, r], [-r, r])
    case 'diamond':
      return polygon([0, -r - 2], [r + 2, 0], [0, r + 2], [-r - 2, 0])
    case 'triangle':
      return polygon([0, -r - 1], [r + 1, r], [-r - 1, r])
  }
}

function rule(kind: string, x1: number, y1: number, x2: number, y2: number): Markup {
  return el('line', { class: kind, x1, y1, x2, y2 })
}

function label(text: string, x: number, y: number, anchor: string, kind = 'tick'): Markup {
  return el('text', { class: kind, x, y, 'text-anchor': anchor }, text)
}

const round = (value: number): number => Math.round(value * 100) / 100
