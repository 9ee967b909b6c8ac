/**
 * Installing: the executable that a runtime starts, then the network configuration that makes it do
 * so. A runtime calls the plugin as soon as it sees the configuration, so that comes last, and only
 * when the daemon can serve; all is checked before anything is written.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { makeFolder } from '../fs/folder.ts'
import { query } from '../rpc/client.ts'
import { type Conflist, isOurConflist, PLUGIN, readConflist, remarks } from './conflist.ts'
import { checkPath, placeFile, plainFile, readPlain, safeFolder } from './files.ts'

export const DEFAULT_BIN_DIR = '/opt/cni/bin'
export const DEFAULT_CONF_DIR = '/etc/cni/net.d'
/** Seconds that `--wait` waits for the daemon. */
export const DEFAULT_WAIT_S = 120
/** Milliseconds between two questions whether the daemon serves, and for the answer to one. */
const ASK_AGAIN_MS = 200
const ASK_MS = 5_000

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

export interface InstallOptions {
  binDir: string
  confDir: string
  /** Absolute path of the configuration list. */
  conflist: string
  /** The daemon's socket; the one that the list names when absent. */
  socket?: string
  /** Seconds to wait for the daemon; 0: it must serve now. */
  waitS: number
  /** Install this one only; the executable needs no daemon. */
  only?: 'executable' | 'conflist'
  /** Told what was done and what an operator should know, a sentence each. */
  tell: (line: string) => void
  /** Path of the executable; the built one when absent. */
  executable?: string
}

/** Installs; throws with the object, the cause and what helps, and then has written nothing of what was refused. */
export async function install(options: InstallOptions): Promise<void> {
  const { binDir, confDir, only, tell } = options
  const executable = only === 'conflist' ? undefined : readExecutable(options.executable)
  const list = only === 'executable' ? undefined : readConflist(options.conflist, options.socket)
  const binFolder = destination('--bin-dir', binDir)
  const confFolder = list && destination('--conf-dir', confDir)
  if (executable && binFolder) expectOurs(binFolder, PLUGIN, isOurExecutable)
  if (list && confFolder) expectOurs(confFolder, list.fileName, isOurConflist)
  if (list) await untilReady(list.socket, options.waitS)

  if (executable) place(binDir, PLUGIN, executable, EXECUTABLE_MODE, tell)
  if (list) placeConflist(list, options)
  if (!existsSync(join(binDir, LOOPBACK))) {
    tell(
      `${join(binDir, LOOPBACK)} is not there: containerd 1.x starts no pod without it (install the CNI plugins of your distribution)`,
    )
  }
}

function placeConflist(list: Conflist, { confDir, binDir, tell }: InstallOptions): void {
  place(confDir, list.fileName, list.bytes, CONFLIST_MODE, tell)
  for (const remark of remarks(list, safeFolder(confDir) ?? confDir, binDir)) tell(remark)
}

function place(
  folder: string,
  name: string,
  bytes: Buffer,
  mode: number,
  tell: (line: string) => void,
): void {
  makeFolder(folder, 0o755)
  // Looked at again: the daemon may have let us wait.
  const real = safeFolder(folder)
  if (real === undefined) throw new Error(`${folder}: it has gone`)
  const changed = placeFile(real, name, bytes, mode)
  tell(`${changed ? 'installed' : 'unchanged'} ${join(folder, name)}`)
}

/** A folder that is there is looked at; of one that is missing, and is made later, the one above. */
function destination(flag: string, path: string): string | undefined {
  checkPath(flag, path)
  for (let folder = path; ; folder = dirname(folder)) {
    const real = safeFolder(folder)
    if (real !== undefined) return folder === path ? real : undefined
  }
}

/** Whether bytes are our executable, of whatever version. */
export function isOurExecutable(bytes: Buffer): boolean {
  return bytes.subarray(0, ELF.length).equals(ELF) && bytes.includes(ABOUT)
}

function expectOurs(folder: string, name: string, ours: (bytes: Buffer) => boolean): void {
  const file = join(folder, name)
  if (plainFile(file) === undefined || ours(readPlain(file))) return
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

/** Resolves when the daemon at `socket` serves; throws with the reason when it does not within `seconds`. */
async function untilReady(socket: string, seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1000
  for (;;) {
    const reason = await notReady(socket)
    if (reason === undefined) return
    if (performance.now() + ASK_AGAIN_MS > end) {
      const waited = seconds > 0 ? ` after ${seconds} s` : ''
      throw new Error(`the daemon can not serve${waited}, nothing is installed: ${reason}`)
    }
    await delay(ASK_AGAIN_MS)
  }
}

async function notReady(socket: string): Promise<string | undefined> {
  try {
    const status = (await query(socket, 'status', ASK_MS)) as Partial<DataplaneStatus> | null
    if (status?.ready === true) return undefined
    const [note] = Array.isArray(status?.notes) ? status.notes : []
    return `${socket}: it is not ready${note === undefined ? '' : ` (${note})`}`
  } catch (error) {
    return (error as Error).message
  }
}
