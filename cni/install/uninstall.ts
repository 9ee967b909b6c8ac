/**
 * Uninstalling, in the reverse order: the network configuration, so that no runtime calls the plugin
 * any more; the executable; what the daemon has left in the kernel; its socket; and with `purge`
 * the queue of DELs and the state file. Only what is known as ours goes, and not while a daemon
 * runs: its locks are held from the first look to the last step, so none can start in between.
 */
import { existsSync, lstatSync, readdirSync, rmdirSync, rmSync, type Stats } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { takeLock } from '../fs/lock.ts'
import { queueFolder } from '../rpc/del-queue.ts'
import { damagedFiles } from '../state/damage.ts'
import { configurationFiles, isOurConflist, PLUGIN } from './conflist.ts'
import {
  checkPath,
  leftTemporaries,
  plainFile,
  readPlain,
  removeEntry,
  safeFolder,
} from './files.ts'
import {
  firewallRules,
  type Leftover,
  type LeftState,
  nftTables,
  nodePort,
  podLinks,
  readLeftState,
  trunkDevices,
} from './leftovers.ts'
import { isOurExecutable } from './place.ts'

/** Attachments that one refusal names. */
const NAMED_PODS = 5
/** What the executable and the daemon call files of the queue (del-queue.ts). */
const QUEUED = /^(\d{20}-\d{1,10}\.del(\.broken)?|\.tmp-[^/]*)$/
/** The last part of folders that are ours alone; another one stays, though it be empty. */
const OWN_FOLDER = 'hawser'

export interface UninstallOptions {
  binDir: string
  confDir: string
  /** The daemon's socket and state file. */
  socket: string
  state: string
  /** Name of the node's own port. */
  hostDevice: string
  /** Also remove queued DELs and the state file. */
  purge: boolean
  /** Also while pods are attached; they lose their network. */
  force: boolean
  /** Only tell what would be removed. */
  dryRun: boolean
  /** Told what was removed, or left alone and why, a sentence each. */
  tell: (line: string) => void
}

/** Uninstalls; succeeds when there is nothing. Throws, before anything is removed, when it must not. */
export async function uninstall(options: UninstallOptions): Promise<void> {
  const { binDir, confDir, socket, state, dryRun, tell } = options
  const paths = { '--bin-dir': binDir, '--conf-dir': confDir, '--socket': socket, '--state': state }
  for (const [flag, path] of Object.entries(paths)) checkPath(flag, path)
  const release = lock([socket, state])
  try {
    const left = leftState(options)
    if (left !== undefined) refuse(left, options)
    const found = [
      ...ourFiles(confDir, configurationFiles, isOurConflist, tell),
      ...ourFiles(binDir, () => [PLUGIN], isOurExecutable, tell),
      ...podLinks(left?.attachments ?? []),
      ...ourPort(options),
      ...trunkDevices(),
      ...(await ourTables(tell)),
      ...(await ourFirewallRules(options)),
      ...daemonFiles(options, left !== undefined),
    ]
    if (found.length === 0) tell('nothing to remove')
    for (const { what, remove } of found) {
      if (!dryRun) await remove()
      tell(`${dryRun ? 'would remove' : 'removed'} ${what}`)
    }
    if (!dryRun) removeOwnFolders(options)
  } finally {
    release()
  }
}

/** Holds the locks that a daemon would need, where there are any; throws when one runs. */
function lock(paths: readonly string[]): () => void {
  const held: (() => void)[] = []
  const release = (): void => {
    for (const each of held.splice(0)) each()
  }
  try {
    for (const path of paths) if (existsSync(`${path}.lock`)) held.push(takeLock(path))
    return release
  } catch (error) {
    release()
    throw error
  }
}

function leftState({ state, tell }: UninstallOptions): LeftState | undefined {
  if (plainFile(state) === undefined) return undefined
  try {
    return readLeftState(state)
  } catch (error) {
    tell(`left alone: ${(error as Error).message}`)
    return undefined
  }
}

function refuse(
  { attachments, delegations, secondaries }: LeftState,
  { force, purge }: UninstallOptions,
): void {
  if (force) return
  const there = attachments.filter(each => each.there !== 'no').map(each => each.id)
  if (there.length > 0) {
    const named = there.slice(0, NAMED_PODS).join(', ')
    const more = there.length > NAMED_PODS ? ` and ${there.length - NAMED_PODS} more` : ''
    throw new Error(`pods are attached: ${named}${more} (drain the node, or use --force)`)
  }
  const owed = [
    ...(delegations > 0 ? [`${delegations} addresses of IPAM plugins are not given back`] : []),
    ...(secondaries > 0 ? [`${secondaries} further interfaces are not undone`] : []),
  ]
  if (purge && owed.length > 0) {
    throw new Error(`${owed.join(', ')} (start the daemon once more for that, or use --force)`)
  }
}

/** Files of `folder`, among those that `list` names, that are ours; and those that a cut write left. */
function ourFiles(
  folder: string,
  list: (folder: string) => string[],
  ours: (bytes: Buffer) => boolean,
  tell: (line: string) => void,
): Leftover[] {
  const real = safeFolder(folder)
  if (real === undefined) return []
  const mine = list(real).filter(name => {
    const file = join(real, name)
    try {
      return plainFile(file) !== undefined && ours(readPlain(file))
    } catch (error) {
      tell(`left alone: ${(error as Error).message}`)
      return false
    }
  })
  return [...mine, ...leftTemporaries(real)].map(name => entry(join(real, name)))
}

function ourPort({ hostDevice, tell }: UninstallOptions): Leftover[] {
  const { port, taken } = nodePort(hostDevice)
  if (taken !== undefined) tell(`left alone: ${hostDevice}: ${taken}`)
  return port === undefined ? [] : [port]
}

async function ourTables(tell: (line: string) => void): Promise<Leftover[]> {
  try {
    return await nftTables()
  } catch (error) {
    tell(`nft tables are not looked for: ${(error as Error).message}`)
    return []
  }
}

async function ourFirewallRules({ hostDevice, tell }: UninstallOptions): Promise<Leftover[]> {
  try {
    return await firewallRules(hostDevice)
  } catch (error) {
    tell(`rules in FORWARD are not looked for: ${(error as Error).message}`)
    return []
  }
}

/** The socket and, with `purge`, the queue, the state file, if that is `ours`, and damaged ones; their locks last. */
function daemonFiles({ socket, state, purge }: UninstallOptions, ours: boolean): Leftover[] {
  const file = (stat: Stats): boolean => stat.isFile()
  const queue = queueFolder(socket)
  const queued = purge && safeFolder(queue) !== undefined ? readdirSync(queue) : []
  const damaged = purge && safeFolder(dirname(state)) !== undefined ? damagedFiles(state) : []
  const kept = [
    ...(ours ? ownFiles(state) : []),
    ...damaged.flatMap(each => [each, `${each}-wal`, `${each}-shm`]),
  ]
  return [
    ...entries([socket], stat => stat.isSocket()),
    ...entries(
      queued.filter(name => QUEUED.test(name)).map(name => join(queue, name)),
      file,
    ),
    ...entries(purge ? kept : [], file),
    ...entries([`${socket}.lock`], file),
  ]
}

/** The state file and what the daemon keeps beside it: SQLite's files, the last good cluster file, the lock. */
function ownFiles(state: string): string[] {
  return [
    '',
    '-wal',
    '-shm',
    '.cluster',
    '.cluster.new',
    '.policy',
    '.policy.new',
    '.names',
    '.names.new',
    '.lock',
  ].map(end => `${state}${end}`)
}

/** Those of `paths`, in folders that are root's alone, that are there and of the right kind. */
function entries(paths: readonly string[], right: (stat: Stats) => boolean): Leftover[] {
  return paths.flatMap(path => {
    if (safeFolder(dirname(path)) === undefined) return []
    const stat = lstatSync(path, { throwIfNoEntry: false })
    return stat !== undefined && right(stat) ? [entry(path)] : []
  })
}

function entry(path: string): Leftover {
  return { what: path, remove: () => removeEntry(path, each => rmSync(each, { force: true })) }
}

/** The queue's folder, and those of socket and state that bear our name, when nothing is in them. */
function removeOwnFolders({ socket, state, tell }: UninstallOptions): void {
  const named = [dirname(socket), dirname(state)].filter(each => basename(each) === OWN_FOLDER)
  for (const folder of new Set([queueFolder(socket), ...named])) {
    if (!existsSync(folder) || readdirSync(folder).length > 0) continue
    try {
      removeEntry(folder, rmdirSync)
      tell(`removed ${folder}`)
    } catch (error) {
      // In a container it is a mount.
      tell(`left alone: ${folder}: ${(error as Error).message}`)
    }
  }
}
