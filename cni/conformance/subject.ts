/** What is tried: the executable, what the conflist holds for it, and where its companions lie. */
import { accessSync, constants, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { parseText, readBounded, validate } from '../base/document.ts'

/** Where chained plugins and IPAM plugins lie, behind the plugin's own folder. */
const DEFAULT_FOLDERS = ['/usr/lib/cni', '/opt/cni/bin']

export type Config = Record<string, unknown>

export interface Subject {
  /** Absolute path of the executable. */
  plugin: string
  /** Name of the network. */
  network: string
  /** The plugin's own object in the conflist. */
  config: Config
  /** The versions that the conflist names. */
  conflistVersions: string[]
  /** Absolute folders, as CNI_PATH has them. */
  cniPath: string[]
}

const pluginSchema = z.looseObject({ type: z.string().min(1) })
const listSchema = z.looseObject({
  cniVersion: z.string().optional(),
  cniVersions: z.array(z.string()).optional(),
  name: z.string().min(1),
  plugins: z.array(pluginSchema).min(1),
})
const singleSchema = pluginSchema.extend({
  cniVersion: z.string().optional(),
  name: z.string().min(1),
})

/**
 * Reads the conflist (or the configuration of a single plugin) at `conflist`. `dataFolder` is where
 * `host-local` keeps its reservations if the configuration doesn't say: the host's own stay as they
 * are. Throws when a file can't be used, or when the conflist holds nothing for this plugin.
 */
export function readSubject(
  plugin: string,
  conflist: string,
  folders: readonly string[],
  dataFolder: string,
): Subject {
  const path = resolve(plugin)
  if (!executable(path)) throw new Error(`${path}: not an executable file`)
  const type = basename(path)
  const document = parseText(conflist, readBounded(conflist))
  const single = (document as { plugins?: unknown } | null)?.plugins === undefined
  const list = single
    ? asList(validate(conflist, singleSchema, document))
    : validate(conflist, listSchema, document)
  const own = list.plugins.find(each => each.type === type)
  if (own === undefined) {
    const types = list.plugins.map(each => each.type).join(', ')
    throw new Error(`${conflist}: it has no plugin of type ${type}, only ${types}`)
  }
  const cniPath = [dirname(path), ...(folders.length > 0 ? folders : DEFAULT_FOLDERS)]
  return {
    plugin: path,
    network: list.name,
    config: isolated(own, dataFolder),
    conflistVersions: [list.cniVersion ?? '0.1.0', ...(list.cniVersions ?? [])],
    cniPath: [...new Set(cniPath.map(folder => resolve(folder)))],
  }
}

function asList({ name, cniVersion, ...own }: z.output<typeof singleSchema>) {
  return {
    name,
    cniVersion,
    cniVersions: undefined,
    plugins: [own as z.output<typeof pluginSchema>],
  }
}

function isolated(config: Config, dataDir: string): Config {
  const ipam = config['ipam'] as Config | undefined
  if (ipam?.['type'] !== 'host-local' || ipam['dataDir'] !== undefined) return config
  return { ...config, ipam: { ...ipam, dataDir } }
}

/** Path of the plugin `type` in `folders`; undefined when none has it. */
export function findPlugin(folders: readonly string[], type: string): string | undefined {
  return folders.map(folder => join(folder, type)).find(executable)
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
