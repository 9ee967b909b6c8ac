// A port whose outer headers the kernel writes: what the stages leave to it, and what they don't.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MAX_TUNNELLED_BYTES, VXLAN_OVERHEAD_IPV6 } from '../../../dataplane/limits.ts'
import { COUNTER } from '../../../dataplane/memory/arena.ts'
import { PORT_KIND } from '../../../dataplane/ports/port.ts'
import { MTU, type TestEngine, TUN_POD, testEngine, UNDERLAY } from '../../harness/engine.ts'
import { tcp } from '../../harness/packets.ts'

const HEADERS = 40
const SIZE = MTU - HEADERS
/** The largest packet that IPv4 has. */
const LARGEST = 65_535

let world: TestEngine
beforeEach(() => {
  world = testEngine({ superframes: true, partialChecksums: true })
  Object.assign(world.ports[UNDERLAY]!, { kind: PORT_KIND.VXLAN })
})
afterEach(() => {
  expect(world.leaked()).toBe(0)
})

/** What leaves by the overlay of a superframe of that many bytes. */
function send(bytes: number) {
  const packet = tcp(
    { src: '10.244.1.2', dst: '10.244.2.9', partial: true },
    new Uint8Array(bytes - HEADERS),
  )
  const offload = { partial: true, csumStart: 20, csumOffset: 16, gsoType: 1, gsoSize: SIZE }
  return world.send(TUN_POD, { bytes: packet, ...offload })[UNDERLAY]!
}

test('a superframe whose outer packet is no longer than a packet may be stays whole', () => {
  expect(MAX_TUNNELLED_BYTES + VXLAN_OVERHEAD_IPV6).toBe(LARGEST)
  expect(send(MAX_TUNNELLED_BYTES)).toHaveLength(1)
  expect(world.counter(COUNTER.SEGMENTED)).toBe(0)
})

test('a longer one is cut: no outer packet above 65,535 bytes comes into being', () => {
  for (const bytes of [MAX_TUNNELLED_BYTES + 1, LARGEST]) {
    expect(send(bytes)).toHaveLength(Math.ceil((bytes - HEADERS) / SIZE))
  }
  expect(world.counter(COUNTER.SEGMENTED)).toBe(2)
  expect(world.drops()).toEqual({})
})
