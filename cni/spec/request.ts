/** What a runtime sends a plugin, and what it gets: variables, stdin, exit, stdout, stderr. */

/** The variables of a request, in the order in which they travel. */
export const VARIABLES = [
  'CNI_COMMAND',
  'CNI_CONTAINERID',
  'CNI_NETNS',
  'CNI_IFNAME',
  'CNI_ARGS',
  'CNI_PATH',
] as const

export type Variable = (typeof VARIABLES)[number]

export interface CniRequest {
  /** Absent variables are ''. */
  env: Readonly<Record<Variable, string>>
  /** stdin as it came. */
  config: string
}

export interface CniReply {
  /** 0, or 1 for an error. */
  exit: number
  /** Exactly one JSON document, or '' where the specification prints nothing. */
  stdout: string
  /** Lines that go to stderr before, fit for a terminal; absent: none. */
  stderr?: string
}

/** What goes to stderr: less than a pipe holds (pipe(7)), so that nobody has to read it. */
export const MAX_STDERR_BYTES = 16 * 1024
