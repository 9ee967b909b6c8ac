/** What a pod's rate lets through, seen from outside: bytes that arrived, and a clock that runs longer. */
import { expect } from 'vitest'
import { transfer } from '../harness/traffic.ts'
import { dropsOf, type Endpoint } from '../netns/expect.ts'
import type { ServingPod } from './pods.ts'

/** Seconds that a sender sends. */
const SECONDS = 2
/** What may pass at once when nothing is said of it: half a second of the rate. */
const BURST_SECONDS = 0.5
/** A superframe may pass with the last bit that is left of a burst. */
const LONGEST_BITS = 8 * 65_536
/** A machine that stands still lets a stream lose time, which says nothing of the rate. */
const TRIES = 3

/**
 * A stream: never more than `rate` (bits a second) lets through, and in one of the tries more than half
 * of it. `limited` is the pod on whose node the rest is counted as dropped.
 */
export async function expectShaped(
  limited: ServingPod,
  protocol: 'tcp' | 'udp',
  [from, to]: readonly [Endpoint, Endpoint],
  rate: number,
): Promise<void> {
  const dropped = async () => (await dropsOf(limited.runtime.node))['rate'] ?? 0
  const before = await dropped()
  let share = 0
  for (let tried = 0; tried < TRIES && share < 0.5; tried++) {
    const began = performance.now()
    const load = { seconds: SECONDS }
    const { receivedBytes } = await transfer(protocol, from.netns, to.netns, to.ip4, load)
    // From before the first packet to behind the last: no pause of the machine makes it shorter.
    const seconds = (performance.now() - began) / 1000
    const bits = receivedBytes * 8
    expect(bits).toBeLessThan(rate * (seconds + BURST_SECONDS) + LONGEST_BITS)
    share = bits / (rate * SECONDS)
  }
  expect(share, `${protocol} from ${from.name} to ${to.name}`).toBeGreaterThan(0.5)
  expect(await dropped()).toBeGreaterThan(before)
}

/** A file arrives whole, and no rate stands in its way. */
export async function expectUnshaped(from: ServingPod, to: ServingPod): Promise<void> {
  const before = await dropsOf(to.runtime.node)
  const { intact } = await transfer('tcp', from.netns, to.netns, to.ip4, { bytes: 8 << 20 })
  expect(intact).toBe(true)
  expect((await dropsOf(to.runtime.node))['rate']).toBe(before['rate'])
}
