/**
 * A peer: somebody else's table with the same contents, in a process of its own, that looks the same
 * keys up. Peers of one process (ways to look up in one table) must not be asked at the same time.
 */
export interface Peer {
  /** `rte_fib avx512`. */
  readonly name: string
  readonly buildMs: number
  /** What its table takes; undefined when it doesn't say. */
  readonly bytes: number | undefined
  /** Items that it had no room for. */
  readonly refused: number
  /** Takes the keys, in the form that our own algorithms of the family get, and answers each: 0 is none. */
  trace(keys: Uint32Array): Promise<Uint32Array>
  /** Goes over the whole trace again and again for about `seconds`; returns keys a second. `dependent`: one a call, none known before the answer to the one before. */
  rate(seconds: number, dependent?: boolean): Promise<number>
  /** Ends its process when no other peer lives there. */
  close(): Promise<void>
}

export interface Peers {
  peers: Peer[]
  /** One sentence each: what isn't there, and why. */
  missing: string[]
}

export async function closeAll(peers: readonly Peer[]): Promise<void> {
  for (const peer of peers) await peer.close()
}
