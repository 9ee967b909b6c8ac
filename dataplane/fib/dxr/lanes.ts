/**
 * How DXR's writer knows that no reader is where it wants to write, without being told. A chunk is
 * made anew for most new routes, so that a large table could not be built in its own memory if
 * every old one had to wait for `quiesced`.
 *
 * A reader takes a lane (a cache line of its own) for each batch and writes there with which
 * version it came; it clears the lane at the end. The writer unlinks an extent in a change, whose
 * version it notes, and later looks at all lanes: when each is empty or was taken with a newer
 * version, nobody holds the extent. Two cases of a lane that the writer finds empty:
 *
 * * The reader has left: it holds nothing.
 * * The reader takes the lane after the writer looked. Unlinking and looking are sequentially
 *   consistent in the writer, taking the lane and loading the version are in the reader (Atomics),
 *   and the reader loads direct entries behind these: it finds the extent unlinked. That it may
 *   write a version older than the writer's only makes the writer wait.
 *
 * A reader that came with version v loaded its entries after change v - 1 was complete, so it can
 * hold what change v unlinks, and nothing that was unlinked before.
 *
 * With all lanes taken, a reader counts itself in the CROWD word, and while that is not 0 the writer
 * frees nothing. Threads that are stopped inside a lookup leave their lane taken until `quiesced`
 * says that this can't be.
 */

import { VERSION } from '../version.ts'
import { CROWD, LANES, laneAt, type Tables } from './tables.ts'

/** Retired extents between two looks at the lanes. */
const BETWEEN_LOOKS = 32
/** No lane: counted in the crowd. */
const CROWDED = -1

/** What a lane holds of a reader that came with this version; never 0. */
function mark(version: number): number {
  return (version << 1) | 1
}

/** Reader: takes a lane, from `hint` on, before it loads anything. Returns what `leave` wants. */
export function enter({ header, lanes }: Tables, hint: number): number {
  const mine = mark(Atomics.load(header, VERSION))
  for (let lane = 0; lane < LANES; lane++) {
    const at = laneAt(hint + lane)
    if (Atomics.compareExchange(lanes, at, 0, mine) === 0) return at
  }
  Atomics.add(header, CROWD, 1)
  return CROWDED
}

/** Reader: the batch is done. */
export function leave({ header, lanes }: Tables, at: number): void {
  if (at === CROWDED) Atomics.sub(header, CROWD, 1)
  else Atomics.exchange(lanes, at, 0)
}

/** Extents that are unlinked and may still be read. */
export interface Retired {
  /** Granules that wait. */
  readonly waiting: number
  /** The extent was unlinked by the change that made the version. */
  retire(at: number, granules: number): void
  /** Frees what no reader holds, as far as the lanes tell. */
  look(): void
  /** Frees everything; lanes of readers from before are empty ones. */
  quiesced(): void
}

/** `give` takes back an extent that nobody reads. */
export function retired(
  { header, lanes }: Tables,
  give: (at: number, granules: number) => void,
): Retired {
  /** Three numbers an extent, in the order of the marks: where, how many granules, mark. */
  let queue: number[] = []
  let waiting = 0
  let sinceLook = 0

  /** Frees what stands before `end` in the queue. */
  function free(end: number): void {
    for (let i = 0; i < end; i += 3) {
      waiting -= queue[i + 1]!
      give(queue[i]!, queue[i + 1]!)
    }
    queue = end === queue.length ? [] : queue.slice(end)
  }

  function look(): void {
    sinceLook = 0
    if (Atomics.load(header, CROWD) !== 0) return
    let end = queue.length
    for (let lane = 0; lane < LANES; lane++) {
      const came = Atomics.load(lanes, laneAt(lane))
      // Marks go round: the difference says which one is newer.
      if (came !== 0) while (end > 0 && ((came - queue[end - 1]!) | 0) <= 0) end -= 3
    }
    if (end > 0) free(end)
  }

  return {
    get waiting() {
      return waiting
    },
    retire(at, granules) {
      queue.push(at, granules, mark(header[VERSION]!))
      waiting += granules
      if (++sinceLook >= BETWEEN_LOOKS) look()
    },
    look,
    quiesced() {
      const now = mark(header[VERSION]!)
      for (let lane = 0; lane < LANES; lane++) {
        const came = Atomics.load(lanes, laneAt(lane))
        if (came !== 0 && came !== now) Atomics.compareExchange(lanes, laneAt(lane), came, 0)
      }
      free(queue.length)
    },
  }
}
