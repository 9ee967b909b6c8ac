/** A clock that nobody can set. */

/**
 * Milliseconds since 1970 as this process believed at its start, and from there on as time really
 * passes: for spans within one process that setting the time must neither cut short nor draw out.
 */
export function steadyNow(): number {
  return Math.floor(performance.timeOrigin + performance.now())
}
