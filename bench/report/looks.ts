/** Which look a contender has: the same hue for an algorithm, its native twin and its variants. */
import type { Look } from './chart.ts'
import { swatch } from './chart.ts'
import { el, type Markup } from './markup.ts'
import { HUES } from './style.ts'

/** Peers are DPDK's. */
const PEER = /^rte_/
const NATIVE = /_native/

export class Looks {
  private readonly hues = new Map<string, number>()

  /** The look of a contender; hues are given out in the order of asking. */
  of(name: string): Look {
    const base = baseOf(name)
    let hue = this.hues.get(base)
    if (hue === undefined) {
      hue = this.hues.size % HUES
      this.hues.set(base, hue)
    }
    // More algorithms than hues: the next ones of a hue have another outline.
    const round = Math.floor([...this.hues.keys()].indexOf(base) / HUES)
    if (PEER.test(name)) return { hue, shape: 'triangle', dash: name.includes(' ') ? '2 3' : '7 4' }
    if (NATIVE.test(name)) return { hue, shape: 'square' }
    return { hue, shape: round === 0 ? 'circle' : 'diamond' }
  }
}

/** `poptrie4_native`: poptrie4. `rte_fib 1B avx512`: rte_fib. */
function baseOf(name: string): string {
  return PEER.test(name) ? name.split(' ')[0]! : name.replace(/_native.*$/, '')
}

export function legend(names: readonly string[], looks: Looks): Markup {
  return el(
    'ul',
    { class: 'legend' },
    names.map(name => el('li', {}, swatch(looks.of(name)), name)),
  )
}
