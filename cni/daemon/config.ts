/**
 * The daemon's configuration: a YAML or JSON file, then command line flags on top, then defaults.
 * cni/CONFIGURATION.md has the table of keys. Errors name the file (or the flag), the field and the cause.
 */

import { hostname } from 'node:os'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { type DataplaneOptions, isFibFile, type PolicyLimits } from '../../dataplane/control.ts'
import { clean, parseText, readBounded, validate } from '../base/document.ts'
import { file, path } from '../base/fields.ts'
import { type ListenAddress, listenAddress } from '../base/listen.ts'
import { LOG_LEVELS, type LogLevel, logSection } from '../base/logger.ts'
import { isNodeName } from '../cluster/check.ts'
import { policySection } from '../enforce/config.ts'
import { type InstallConfig, installConfig, installSection } from '../install/config.ts'
import { ipamSection } from '../ipam/config.ts'
import { type Block, parseExclusion } from '../ipam/ranges.ts'
import { metricsSection } from '../observe/config.ts'
import { namespacesSection } from '../pods/rebuild.ts'
import { DEFAULT_SOCKET } from '../rpc/protocol.ts'
import { device, engineKeys, UNDERLAY_MODES } from './engine-config.ts'

export { DEFAULT_SOCKET }
export const DEFAULT_STATE = '/var/lib/hawser/state.db'

/** Everything that the daemon needs to know, complete and checked. */
export interface DaemonConfig {
  /** This node's name in the cluster file. */
  node: string
  /** Absolute path of the cluster file. */
  cluster: string
  /** Absolute path of the unix socket. */
  socket: string
  /** Absolute path of the state file. */
  state: string
  logLevel: LogLevel
  /** Folders, absolute, in which a runtime mounts network namespaces, besides those known (state-rebuild.ts). */
  namespaces?: readonly string[]
  /** Addresses that no pod may have. */
  exclude?: readonly Block[]
  /** Where metrics are served; absent: nowhere. */
  metrics?: ListenAddress
  /** What the daemon installs on its node, and looks after; absent: nothing. */
  install?: InstallConfig
  /** Absolute path of the folder of policy files; absent: there is no policy. */
  policy?: { folder: string }
  /** Handed to `createDataplane` as it is; absent keys have the engine's defaults. */
  dataplane: Omit<DataplaneOptions, 'log'>
}

/** Command line flags, as commander gives them; each wins over the file. */
export interface DaemonFlags {
  config?: string
  node?: string
  cluster?: string
  socket?: string
  state?: string
  workers?: string
  underlayDevice?: string
  underlayMode?: string
  vni?: string
  vxlanPort?: string
  logLevel?: string
}

/** sockaddr_un.sun_path holds 108 bytes with the terminating zero (unix(7)). */
const MAX_SOCKET_PATH = 107

const socketPath = path.refine(text => Buffer.byteLength(text) <= MAX_SOCKET_PATH, {
  error: issue => `${clean(issue.input)}: longer than ${MAX_SOCKET_PATH} bytes`,
})
const nodeName = z.string().refine(isNodeName, {
  error: issue => `${clean(issue.input)}: not a DNS-1123 name`,
})

/** What each room knows of its own, put together. */
const configSchema = z.strictObject({
  node: nodeName.optional(),
  cluster: file,
  socket: socketPath.default(DEFAULT_SOCKET),
  state: path.default(DEFAULT_STATE),
  ...engineKeys,
  namespaces: namespacesSection.optional(),
  ipam: ipamSection.optional(),
  log: logSection.optional(),
  metrics: metricsSection.optional(),
  install: installSection.optional(),
  policy: policySection.optional(),
})

/** What a file alone must be: the same keys, of which none is required until the flags are in. */
const fileSchema = configSchema.partial()

type FileConfig = z.output<typeof fileSchema>

/** Reads the file that `flags.config` names, if any, and lays the flags over it; throws DocumentError. */
export function loadConfig(flags: DaemonFlags): DaemonConfig {
  const fromFile: FileConfig =
    flags.config === undefined
      ? {}
      : validate(flags.config, fileSchema, parseText(flags.config, readBounded(flags.config)))
  const fromFlags = checkFlags(flags)
  const source = flags.config ?? 'hawser daemon'
  const merged = validate(source, configSchema, {
    ...fromFile,
    ...fromFlags,
    underlay: { ...fromFile.underlay, ...fromFlags.underlay },
    log: { ...fromFile.log, ...fromFlags.log },
  })
  const {
    node,
    cluster,
    socket,
    state,
    log,
    namespaces,
    ipam,
    metrics,
    install,
    policy,
    fib: fibs,
    ...rest
  } = merged
  const folder = flags.config === undefined ? process.cwd() : dirname(resolve(flags.config))
  return {
    node: validate(`${source} (host name)`, nodeName, node ?? hostname().toLowerCase()),
    cluster: resolve(folder, cluster),
    socket,
    state,
    logLevel: log?.level ?? 'info',
    ...(metrics === undefined ? {} : { metrics: listenAddress(metrics.listen)! }),
    ...(install === undefined ? {} : { install: installConfig(install, folder) }),
    ...(namespaces === undefined ? {} : { namespaces }),
    ...(ipam?.exclude === undefined ? {} : { exclude: ipam.exclude.flatMap(blocks) }),
    ...(policy === undefined ? {} : { policy: { folder: resolve(folder, policy.folder) } }),
    dataplane: {
      ...withoutUndefined(rest),
      ...(policy === undefined ? {} : { policy: limitsOf(policy) }),
      ...(fibs === undefined ? {} : { fibs: [fibs].flat().map(each => fibPath(each, folder)) }),
    },
  }
}

function limitsOf(policy: z.output<typeof policySection>): PolicyLimits {
  const { matches, addresses, flows, dns } = policy
  const { most, ofPod, withPod, halfOpenOfPod } =
    typeof flows === 'object' ? flows : { most: flows }
  const all = {
    ...{ matches, addresses, flows: most, halfOpenOfPod, resolvers: dns?.resolvers },
    ...{ flowsOfPod: ofPod, flowsWithPod: withPod },
  }
  return Object.fromEntries(
    Object.entries(all).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  )
}

function blocks(exclusion: string): Block[] {
  const block = parseExclusion(exclusion)
  return 'cause' in block ? [] : [block]
}

/** A FIB as the engine wants it: names stay, paths become absolute. */
export function fibPath(text: string, folder: string): string {
  return isFibFile(text) ? resolve(folder, text) : text
}

/** Flags are checked apart, so that an error names the flag and not the file. */
function checkFlags(flags: DaemonFlags): FileConfig {
  const from = <S extends z.ZodType>(flag: string, schema: S, value: unknown): z.output<S> =>
    validate(`--${flag}`, schema, value)
  const shape = fileSchema.shape
  const found: Record<string, unknown> = {}
  const underlay: Record<string, unknown> = {}
  if (flags.node !== undefined) found['node'] = from('node', shape.node, flags.node)
  for (const flag of ['cluster', 'socket', 'state'] as const) {
    const given = flags[flag]
    if (given !== undefined)
      found[flag] = from(flag, shape[flag], given === '' ? '' : resolve(given))
  }
  if (flags.workers !== undefined) {
    found['workers'] = from('workers', shape.workers, integer(flags.workers))
  }
  if (flags.vni !== undefined) found['vni'] = from('vni', shape.vni, integer(flags.vni))
  if (flags.vxlanPort !== undefined) {
    found['vxlanPort'] = from('vxlan-port', shape.vxlanPort, integer(flags.vxlanPort))
  }
  if (flags.underlayDevice !== undefined) {
    underlay['device'] = from('underlay-device', device, flags.underlayDevice)
  }
  if (flags.underlayMode !== undefined) {
    underlay['mode'] = from('underlay-mode', z.enum(UNDERLAY_MODES), flags.underlayMode)
  }
  if (flags.logLevel !== undefined) {
    found['log'] = { level: from('log-level', z.enum(LOG_LEVELS), flags.logLevel) }
  }
  return { ...found, underlay } as FileConfig
}

/** A decimal number, or the text itself for the schema to refuse. */
function integer(text: string): number | string {
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : text
}

/** The optional keys that are there; `exactOptionalPropertyTypes` tells absent from undefined. */
function withoutUndefined(options: object): Omit<DataplaneOptions, 'log'> {
  return Object.fromEntries(
    Object.entries(options)
      .map(([key, value]) => [key, isPlain(value) ? withoutUndefined(value) : value])
      .filter(([, value]) => value !== undefined && !isEmpty(value)),
  )
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function isEmpty(value: unknown): boolean {
  return isPlain(value) && Object.keys(value).length === 0
}
