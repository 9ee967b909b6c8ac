/**
 * The network configuration list that a runtime reads (CNI specification 1.1.0, "Configuration
 * format"): checked before it is installed, since a runtime drops a broken one with a line in its
 * log and the node never becomes ready; and known as ours afterwards.
 */

import { existsSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { DocumentError, parseText, readBounded, validate } from '../base/document.ts'
import { DEFAULT_SOCKET } from '../rpc/protocol.ts'
import { nameProblem } from '../spec/names.ts'
import { parseAdd } from '../spec/netconf.ts'
import { CNI_VERSIONS } from '../spec/versions.ts'

/** Largest configuration list, in bytes. */
const MAX_CONFLIST_BYTES = 1024 * 1024
/** What a runtime reads of its folder (libcni's ConfFiles); the first by name wins. */
const READ_BY_RUNTIMES = /\.(conf|conflist|json)$/
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.conflist$/
/** A plugin's `type` is the name of an executable in a folder of CNI_PATH. */
const PLUGIN_TYPE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$/

export const PLUGIN = 'hawser'

const plugin = z.looseObject({ type: z.string().regex(PLUGIN_TYPE, { error: 'not a file name' }) })

const listSchema = z.looseObject({
  cniVersion: z.enum(CNI_VERSIONS),
  cniVersions: z.array(z.enum(CNI_VERSIONS)).min(1).optional(),
  name: z.string().superRefine((value, context) => {
    const cause = nameProblem(value)
    if (cause !== undefined) context.addIssue({ code: 'custom', message: cause, input: value })
  }),
  disableCheck: z.boolean().optional(),
  disableGC: z.boolean().optional(),
  plugins: z.array(plugin).min(1),
})

export interface Conflist {
  /** Name of the file in the runtime's folder. */
  fileName: string
  bytes: Buffer
  /** The daemon's socket that the plugin will ask. */
  socket: string
  /** `type` of every plugin of the chain, ours first. */
  plugins: readonly string[]
}

/**
 * Reads and checks a configuration list. With `socket`, the plugin must ask the daemon there: a list
 * that says nothing of it gets the key, one that names another is refused. Throws DocumentError.
 */
export function readConflist(file: string, socket?: string): Conflist {
  const fileName = basename(file)
  if (!FILE_NAME.test(fileName)) throw refusal(file, 'its name does not end in .conflist')
  const text = readBounded(file, MAX_CONFLIST_BYTES)
  const list = validate(file, listSchema, json(file, text))
  const [own] = list.plugins
  if (own?.type !== PLUGIN) throw refusal(file, `plugins[0].type: not "${PLUGIN}"`)
  for (const cniVersion of list.cniVersions ?? [list.cniVersion]) {
    try {
      parseAdd({ ...own, name: list.name, cniVersion })
    } catch (error) {
      throw refusal(file, `plugins[0]: ${(error as Error).message}`)
    }
  }
  const named = own['socket'] ?? DEFAULT_SOCKET
  if (typeof named !== 'string' || !named.startsWith('/')) {
    throw refusal(file, 'plugins[0].socket: not an absolute path')
  }
  const facts = { fileName, plugins: list.plugins.map(({ type }) => type) }
  if (socket === undefined || socket === named) {
    return { ...facts, bytes: Buffer.from(text), socket: named }
  }
  if (own['socket'] !== undefined) {
    throw refusal(file, `plugins[0].socket: ${named}, but the daemon is asked at ${socket}`)
  }
  const whole = { ...list, plugins: [{ ...own, socket }, ...list.plugins.slice(1)] }
  return { ...facts, bytes: Buffer.from(`${JSON.stringify(whole, null, 2)}\n`), socket }
}

/** Whether a file of the runtime's folder is a configuration of ours: its first plugin is. */
export function isOurConflist(bytes: Buffer): boolean {
  try {
    const document = JSON.parse(bytes.toString('utf8')) as { plugins?: { type?: unknown }[] } | null
    return Array.isArray(document?.plugins) && document.plugins[0]?.type === PLUGIN
  } catch {
    return false
  }
}

/** Names of configuration files in `folder`, in the order in which a runtime looks at them. */
export function configurationFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter(entry => !entry.isDirectory() && READ_BY_RUNTIMES.test(entry.name))
    .map(({ name }) => name)
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

/** What an operator should know of the folders once the list is installed: one sentence each. */
export function remarks(list: Conflist, confFolder: string, binFolder: string): string[] {
  const files = configurationFiles(confFolder)
  const before = files.slice(0, Math.max(files.indexOf(list.fileName), 0))
  const others = files.slice(files.indexOf(list.fileName) + 1)
  const absent = list.plugins.filter(type => !existsSync(join(binFolder, type)))
  return [
    ...before.map(
      name =>
        `${join(confFolder, name)} sorts before ${list.fileName}: runtimes use the first one, not ours (move it away)`,
    ),
    ...others.map(name => `${join(confFolder, name)} sorts behind ${list.fileName}: not used`),
    ...absent.map(type => `${join(binFolder, type)} is not there: the chain can't run`),
  ]
}

/** JSON and nothing else: a runtime doesn't read YAML. */
function json(file: string, text: string): unknown {
  if (!text.trimStart().startsWith('{')) throw refusal(file, 'not a JSON object')
  try {
    return JSON.parse(text)
  } catch (error) {
    // The YAML parser tells the line; what is YAML but not JSON is refused all the same.
    parseText(file, text)
    throw refusal(file, `not JSON: ${(error as Error).message}`)
  }
}

function refusal(file: string, cause: string): DocumentError {
  return new DocumentError(file, [{ path: [], cause }])
}
