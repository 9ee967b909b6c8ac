/** A small arena for tests that need one. */
import { Arena, type ArenaPlan, PAGE, planArena } from '../../../dataplane/memory/arena.ts'

export const SMALL_PLAN: ArenaPlan = {
  workers: 1,
  smallFrames: 32,
  largeFrames: 3,
  xdpSockets: 1,
  xdpSocketBytes: PAGE,
  fib4Bytes: 64,
  fib6Bytes: 64,
}

export function smallArena(change: Partial<ArenaPlan> = {}): Arena {
  return Arena.create(planArena({ ...SMALL_PLAN, ...change }))
}
