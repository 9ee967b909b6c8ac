/** The naive balancers: as their papers say it, with Maps and whole lists. Oracles of tests and benches. */
import { mixed, saltOf } from './columns.ts'
import type { Backend } from './lb.ts'
import { DRAWS } from './leastloaded.ts'
import { walkOf } from './maglev.ts'

export interface Oracle {
  choose(hash: number): number
  release(backend: number): void
}

const byId = (backends: readonly Backend[]) => [...backends].sort((a, b) => a.id - b.id)

function maglev(backends: readonly Backend[], places: number): Oracle {
  const most = Math.max(...backends.map(({ weight }) => weight))
  const players = byId(backends).map(({ id, weight }) => {
    const { offset, skip } = walkOf(id, places)
    const wishes = Array.from({ length: places }, (_, j) => (offset + j * skip) % places)
    return { id, weight, wishes: wishes.values(), credit: most - weight }
  })
  const table = new Map<number, number>()
  while (players.length > 0 && table.size < places) {
    for (const player of players) {
      player.credit += player.weight
      if (player.credit < most || table.size === places) continue
      player.credit -= most
      for (const place of player.wishes) {
        if (table.has(place)) continue
        table.set(place, player.id)
        break
      }
    }
  }
  return {
    choose: hash => table.get(Number((BigInt(hash) * BigInt(places)) >> 32n)) ?? 0,
    release() {},
  }
}

function rendezvous(backends: readonly Backend[]): Oracle {
  const salted = byId(backends).map(({ id, weight }) => ({ id, weight, salt: saltOf(id) }))
  return {
    choose(hash) {
      const scores = salted.map(({ id, weight, salt }) => ({
        id,
        score: -weight / Math.log((mixed(hash, salt) + 0.5) / 2 ** 32),
      }))
      scores.sort((a, b) => b.score - a.score || a.id - b.id)
      return scores[0]?.id ?? 0
    },
    release() {},
  }
}

function leastloaded(
  backends: readonly Backend[],
  _places: number,
  loads = new Map<number, number>(),
): Oracle {
  const ordered = byId(backends)
  const total = ordered.reduce((sum, { weight }) => sum + weight, 0)
  const pick = (hash: number, salt: number) => {
    let left = Number((BigInt(mixed(hash, salt)) * BigInt(total)) >> 32n)
    return ordered.findIndex(({ weight }) => {
      left -= weight
      return left < 0
    })
  }
  const load = ({ id, weight }: Backend) => ((loads.get(id) ?? 0) + 1) / weight
  return {
    choose(hash) {
      if (ordered.length === 0) return 0
      const a = pick(hash, DRAWS[0])
      let b = pick(hash, DRAWS[1])
      if (a === b) b = (a + 1) % ordered.length
      const { id } = load(ordered[a]!) <= load(ordered[b]!) ? ordered[a]! : ordered[b]!
      loads.set(id, (loads.get(id) ?? 0) + 1)
      return id
    },
    release: backend => void loads.set(backend, Math.max(0, (loads.get(backend) ?? 0) - 1)),
  }
}

/** `loads` are what earlier backends had: `leastloaded` alone keeps them. */
export const ORACLES: Record<
  string,
  (backends: readonly Backend[], places: number, loads?: Map<number, number>) => Oracle
> = { maglev, rendezvous, leastloaded }
