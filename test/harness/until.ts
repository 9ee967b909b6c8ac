/** Waiting for what nobody announces. */

/** Milliseconds between two looks. */
const LOOK_MS = 20

/** Asks again and again until `look` gives something; throws with `what`, and the last error, after `seconds`. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  seconds = 30,
): Promise<T> {
  const end = performance.now() + seconds * 1000
  let last: unknown
  do {
    try {
      const found = await look()
      if (found !== undefined && found !== false) return found
      last = undefined
    } catch (error) {
      last = error
    }
    await new Promise(resolve => setTimeout(resolve, LOOK_MS))
  } while (performance.now() < end)
  throw new Error(`waited ${seconds} s in vain: ${what}`, { cause: last })
}
