/**
 * `hawser install`: the executable, then the network configuration. A runtime calls the plugin as soon
 * as it sees the configuration, so that comes last, and only when the daemon can serve; all is checked
 * before anything is written.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { DataplaneStatus } from '../../dataplane/control.ts'
import { query } from '../rpc/client.ts'
import { type PlaceOptions, placeConflist, placeExecutable, prepare, remarksOn } from './place.ts'

/** Seconds that `--wait` waits for the daemon. */
export const DEFAULT_WAIT_S = 120
/** Milliseconds between two questions whether the daemon serves, and for the answer to one. */
const ASK_AGAIN_MS = 200
const ASK_MS = 5_000

export interface InstallOptions extends PlaceOptions {
  /** Seconds to wait for the daemon; 0: it must serve now. */
  waitS: number
  /** Told what was done and what an operator should know, a sentence each. */
  tell: (line: string) => void
}

/** Installs; throws with the object, the cause and what helps, and then has written nothing of what was refused. */
export async function install(options: InstallOptions): Promise<void> {
  const { waitS, tell } = options
  const prepared = prepare(options)
  const { executable, list } = prepared
  if (list) await untilReady(list.socket, waitS)
  const told = ({ file, changed }: { file: string; changed: boolean }): void =>
    tell(`${changed ? 'installed' : 'unchanged'} ${file}`)
  if (executable) told(placeExecutable(options, executable))
  if (list) told(placeConflist(options, list))
  for (const remark of remarksOn(options, prepared)) tell(remark)
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
