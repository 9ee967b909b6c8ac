/**
 * The one fence that every reader without a lock, and its writer, uses.
 *
 * A typed array's plain integer accesses never tear, but arm64 may move them. An `Atomics.store`
 * (store-release) keeps what was before it before it, an `Atomics.load` (load-acquire) what comes
 * behind it behind it, and the two keep their own order; a store followed by a load is therefore a
 * fence. An `Atomics.load` alone is none for what stands before it: a reader that compares a version
 * behind its loads needs `fence` between them. Nor is an `Atomics.add` one for what a writer stores
 * behind it: its store half may come later. x86-64 needs none of it and pays a few ns.
 */

/** This thread's own; only its order means something. */
const own = new Int32Array(1)

/** Loads and stores before it happen before those behind it. */
export function fence(): void {
  Atomics.store(own, 0, 0)
  Atomics.load(own, 0)
}
