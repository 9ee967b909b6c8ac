/** Sets of addresses as spans of numbers: how many, whether one is in, what is left without others. */

/** Addresses one behind the other, both ends included. */
export interface Span {
  first: bigint
  last: bigint
}

/** Addresses in `spans`. */
export function sizeOf(spans: readonly Span[]): bigint {
  return spans.reduce((sum, { first, last }) => sum + last - first + 1n, 0n)
}

export function inSpans(spans: readonly Span[], value: bigint): boolean {
  return spans.some(({ first, last }) => first <= value && value <= last)
}

/** `spans`, sorted and disjoint, without `blocks`. */
export function subtract(spans: readonly Span[], blocks: readonly Span[]): Span[] {
  const cuts = merge(blocks)
  const left: Span[] = []
  for (const span of merge(spans)) {
    let { first } = span
    for (const cut of cuts) {
      if (cut.last < first || cut.first > span.last) continue
      if (cut.first > first) left.push({ first, last: cut.first - 1n })
      first = cut.last + 1n
    }
    if (first <= span.last) left.push({ first, last: span.last })
  }
  return left
}

/** The same addresses, sorted; spans that meet are one. */
function merge(spans: readonly Span[]): Span[] {
  const merged: Span[] = []
  for (const { first, last } of [...spans].sort((a, b) => (a.first < b.first ? -1 : 1))) {
    const before = merged.at(-1)
    if (before !== undefined && first <= before.last + 1n) {
      if (last > before.last) before.last = last
    } else merged.push({ first, last })
  }
  return merged
}
