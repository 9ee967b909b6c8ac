/**
 * What plugins of others say on stderr while a request is answered: it goes to the executable's own
 * stderr, where a runtime looks for what a plugin has to say ("Execution Protocol" of the
 * specification), besides the daemon's log.
 *
 * Which request it is said in tells the asynchronous context, so nothing between a verb and the call of
 * a plugin has to hand anything on. A plugin that is called unasked (collection, a start) is in none,
 * and what it says is only logged.
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { type CniReply, MAX_STDERR_BYTES } from '../spec/request.ts'

/** The last line of what is too long. */
const MORE = 'hawser: the rest is left out\n'

interface Listener {
  text: string
  /** There is no room any more. */
  full: boolean
}

const listeners = new AsyncLocalStorage<Listener>()

/** Answers a request by `work`; what plugins say in it is in the reply, at most MAX_STDERR_BYTES. */
export async function withStderr(work: () => Promise<CniReply>): Promise<CniReply> {
  const listener: Listener = { text: '', full: false }
  const reply = await listeners.run(listener, work)
  return listener.text === '' ? reply : { ...reply, stderr: listener.text }
}

/** A line that a plugin has said, of printable ASCII only (document.ts, `clean`). */
export function pluginSays(line: string): void {
  const listener = listeners.getStore()
  if (listener === undefined || listener.full) return
  const text = `${listener.text}${line}\n`
  listener.full = text.length > MAX_STDERR_BYTES - MORE.length
  listener.text = listener.full ? `${listener.text}${MORE}` : text
}

/** `work` as a part of the request that asks for it, whoever lets it begin. */
export const inRequest = AsyncLocalStorage.bind
