/**
 * What a `check` answers. Every protocol file of this folder has one, `check(view, at, length)`, and
 * makes one promise: when it returns OK, no accessor of that file reads or writes outside of
 * `[at, at + length)`, whatever the bytes are. `at` and `length` must lie inside the view; a check
 * itself reads nothing else, throws nothing and allocates nothing.
 *
 * A check is about lengths and structure. Checksums have functions of their own.
 */
export const OK = 0
/** Fewer bytes than the header has, or than it says. */
export const TRUNCATED = 1
/** The version field is another protocol's. */
export const VERSION = 2
/** A length field contradicts the format. */
export const MALFORMED = 3
/** Well formed, of a kind that this file doesn't read. */
export const FOREIGN = 4

const TEXTS = ['ok', 'truncated', 'wrong version', 'malformed', 'of another kind'] as const

/** The text of what `check` answered. */
export function whyNot(reason: number): string {
  return TEXTS[reason] ?? `reason ${reason}`
}
