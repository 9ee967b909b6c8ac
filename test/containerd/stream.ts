/** A stream between two pods that goes on until it is stopped, every byte of it checked (agent.cc). */
import { Running } from '../harness/processes.ts'
import { AGENT } from './images.ts'
import { PORT, type RuntimePod } from './pods.ts'

/** Has `from` read what the container of `to` sends. */
export function follow(from: RuntimePod, to: RuntimePod, address = to.ip4): Running {
  return new Running(AGENT, ['follow', address, String(PORT), '/stream'], { netns: from.netns })
}

/** Resolves when more has come than until now; throws when the stream has ended. */
export async function grows(stream: Running): Promise<void> {
  const before = Number(stream.lines.at(-1) ?? 0)
  await stream.until(line => Number(line) > before)
}
