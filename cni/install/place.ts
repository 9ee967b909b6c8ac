/**
 * What is put on a node: the executable that a runtime starts, and the network configuration that makes
 * it do so. First all is read and checked (`prepare`), then each is put in its place.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeFolder } from '../fs/folder.ts'
import { type Conflist, isOurConflist, PLUGIN, readConflist, remarks } from './conflist.ts'
import { checkPath, placeFile, plainFile, readPlain, safeFolder } from './files.ts'

export const DEFAULT_BIN_DIR = '/opt/cni/bin'
export const DEFAULT_CONF_DIR = '/etc/cni/net.d'
/** The configuration list that comes with the package. */
export const DEFAULT_CONFLIST = 'default'

/** The plugin of others that containerd calls beside ours for every pod, to set its lo up. */
const LOOPBACK = 'loopback'

const EXECUTABLE_MODE = 0o755
const CONFLIST_MODE = 0o644

/** What the executable says of itself; only ours has it. */
const ABOUT = 'the CNI plugin of the hawser daemon; CNI protocol versions supported: '
const ELF = Buffer.from('\x7fELF', 'latin1')

const packaged = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
export const PACKAGED_CONFLIST = packaged('cni/deploy/10-hawser.conflist')
export const PACKAGED_EXECUTABLE = packaged('build/Release/hawser')

export interface PlaceOptions {
  binDir: string
  confDir: string
  /** Absolute path of the configuration list. */
  conflist: string
  /** The daemon's socket; the one that the list names when absent. */
  socket?: string
  /** This one only. */
  only?: 'executable' | 'conflist'
  /** Path of the executable; the built one when absent. */
  executable?: string
}

/** What may be placed: read, checked, and the places looked at. */
export interface Prepared {
  executable: Buffer | undefined
  list: Conflist | undefined
}

export interface Placed {
  file: string
  /** False: it was there already, as it should be. */
  changed: boolean
}

/** Reads and checks all, places included; throws with the object, the cause and what helps. Writes nothing. */
export function prepare(options: PlaceOptions): Prepared {
  const { binDir, confDir, only } = options
  const executable = only === 'conflist' ? undefined : readExecutable(options.executable)
  const list = only === 'executable' ? undefined : readConflist(options.conflist, options.socket)
  const binFolder = destination('--bin-dir', binDir)
  const confFolder = list && destination('--conf-dir', confDir)
  if (executable && binFolder) expectOurs(binFolder, PLUGIN, isOurExecutable)
  if (list && confFolder) expectOurs(confFolder, list.fileName, isOurConflist)
  return { executable, list }
}

export function placeExecutable({ binDir }: PlaceOptions, executable: Buffer): Placed {
  return place(binDir, PLUGIN, executable, EXECUTABLE_MODE)
}

export function placeConflist({ confDir }: PlaceOptions, list: Conflist): Placed {
  return place(confDir, list.fileName, list.bytes, CONFLIST_MODE)
}

/** Whether the list is in its place, as it should be. */
export function stands({ confDir }: PlaceOptions, list: Conflist): boolean {
  try {
    return readPlain(join(confDir, list.fileName)).equals(list.bytes)
  } catch {
    return false
  }
}

/** What an operator should know once all is in place: one sentence each. */
export function remarksOn({ binDir, confDir }: PlaceOptions, { list }: Prepared): string[] {
  const loopback = join(binDir, LOOPBACK)
  return [
    ...(list === undefined ? [] : remarks(list, safeFolder(confDir) ?? confDir, binDir)),
    ...(existsSync(loopback)
      ? []
      : [
          `${loopback} is not there: containerd 1.x starts no pod without it (install the CNI plugins of your distribution)`,
        ]),
  ]
}

/** Whether bytes are our executable, of whatever version. */
export function isOurExecutable(bytes: Buffer): boolean {
  return bytes.subarray(0, ELF.length).equals(ELF) && bytes.includes(ABOUT)
}

function place(folder: string, name: string, bytes: Buffer, mode: number): Placed {
  makeFolder(folder, 0o755)
  // Looked at again: some time may have passed.
  const real = safeFolder(folder)
  if (real === undefined) throw new Error(`${folder}: it has gone`)
  return { file: join(folder, name), changed: placeFile(real, name, bytes, mode) }
}

/** A folder that is there is looked at; of one that is missing, and is made later, the one above. */
function destination(flag: string, path: string): string | undefined {
  checkPath(flag, path)
  for (let folder = path; ; folder = dirname(folder)) {
    const real = safeFolder(folder)
    if (real !== undefined) return folder === path ? real : undefined
  }
}

function expectOurs(folder: string, name: string, ours: (bytes: Buffer) => boolean): void {
  const file = join(folder, name)
  // An empty one is what somebody's full disk has left.
  const stat = plainFile(file)
  if (stat === undefined || stat.size === 0 || ours(readPlain(file))) return
  throw new Error(`${file}: not hawser's; it is left alone (move it away)`)
}

function readExecutable(path = PACKAGED_EXECUTABLE): Buffer {
  let bytes: Buffer
  try {
    bytes = readPlain(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new Error(`${path}: no such file (build it: npm run build)`, { cause: error })
  }
  if (!isOurExecutable(bytes)) throw new Error(`${path}: not hawser's executable`)
  return bytes
}
