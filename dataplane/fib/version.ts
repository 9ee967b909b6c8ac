/**
 * How a reader without a lock notices that the table moved under it.
 *
 * The writer advances the version before it touches the table. A reader that finds one version
 * before and after its lookup has met the stores of at most one change (the one that made that
 * version), and a FIB is built so that one change alone shows each address its old or its new next
 * hop. Else it looks again. The version comes back to a value after 2^32 changes; no lookup takes
 * that long.
 *
 * What keeps loads and stores in order is memory/fence.ts.
 */
import { fence } from '../memory/fence.ts'

/** Word of a FIB's header, an Int32Array at the start of its memory. */
export const VERSION = 0

/** Writer: a new version, before whatever is stored next and after whatever was stored before. */
export function advance(header: Int32Array): number {
  Atomics.store(header, VERSION, header[VERSION]! + 1)
  return Atomics.load(header, VERSION)
}

/** Reader: the version, before whatever is loaded next. */
export function versionOf(header: Int32Array): number {
  return Atomics.load(header, VERSION)
}

/** Reader: whether the version is still `version`, after whatever was loaded before. */
export function unmoved(header: Int32Array, version: number): boolean {
  fence()
  return Atomics.load(header, VERSION) === version
}
