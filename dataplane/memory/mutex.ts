/**
 * A lock in shared memory that waits in the kernel ("Futexes Are Tricky", U. Drepper, mutex 2), and not for ever: whoever
 * comes back without it does without. The word is 0: free, 1: taken, 2: taken, and others may wait.
 */

/** Looks at the word before it waits. */
const SPINS = 256
/** Milliseconds of one wait, and waits. */
const WAIT_MS = 5
const WAITS = 4

/** Takes the lock at `words[at]`; false when others have it all the time. */
export function lock(words: Int32Array, at: number): boolean {
  for (let spin = 0; spin < SPINS; spin++) {
    if (Atomics.compareExchange(words, at, 0, 1) === 0) return true
  }
  for (let wait = 0; wait < WAITS; wait++) {
    if (Atomics.exchange(words, at, 2) === 0) return true
    Atomics.wait(words, at, 2, WAIT_MS)
  }
  return Atomics.exchange(words, at, 2) === 0
}

/** Gives it back; only who has it may. */
export function unlock(words: Int32Array, at: number): void {
  if (Atomics.exchange(words, at, 0) === 2) Atomics.notify(words, at, 1)
}
