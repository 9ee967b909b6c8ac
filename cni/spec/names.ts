/** What names of the specification may be: networks, containers, interfaces, plugins. */

/** Longest network name and container id; native/plugin/environment.cc has the same number. */
export const MAX_NAME = 200

/** Container ids and network names (specification, "Network configuration format"). */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/** Why `value` is no container id or network name; undefined when it is one. */
export function nameProblem(value: string): string | undefined {
  if (value.length > MAX_NAME) return `longer than ${MAX_NAME} characters`
  return NAME.test(value)
    ? undefined
    : 'not a name (a letter or digit, then those, "_", "." and "-")'
}

/**
 * Why `value` can't name a network device; undefined when it can. Linux' dev_valid_name, which takes
 * the byte A0 for white space whatever character it belongs to; and "%", behind which the kernel
 * would choose a number, and so another name.
 */
export function ifnameProblem(value: string): string | undefined {
  const bytes = Buffer.from(value)
  if (bytes.length < 1 || bytes.length > 15) return 'not 1 .. 15 bytes long'
  if (value === '.' || value === '..') return 'a folder, not a name'
  if (bytes.includes(0xa0)) return 'holds the byte A0, which Linux takes for white space'
  return /[/:%\s\0]/.test(value) ? 'holds "/", ":", "%" or white space' : undefined
}

/** Names that can only be a file in the folder itself. */
const PLUGIN_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/

/** Why `type` can't name a plugin; undefined when it can. */
export function delegateProblem(type: string): string | undefined {
  return PLUGIN_NAME.test(type)
    ? undefined
    : 'not the name of a plugin (1 .. 64 letters, digits, "_" and "-")'
}
