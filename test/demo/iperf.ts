/** iperf3 where the machine has it: one TCP stream. */
import { existsSync } from 'node:fs'
import { Running, run } from '../harness/processes.ts'

const IPERF = ['/usr/bin/iperf3', '/usr/local/bin/iperf3'].find(path => existsSync(path))

/** Bits a second of one TCP stream; undefined when there is no iperf3 or it failed. */
export async function iperf(
  from: string,
  to: string,
  address: string,
  seconds: number,
): Promise<{ tcp: number } | undefined> {
  if (IPERF === undefined) return undefined
  const server = new Running(IPERF, ['--server', '--one-off', '--forceflush'], { netns: to })
  try {
    await server.until(line => line.includes('listening'))
    const done = await run(IPERF, ['-c', address, '-t', String(seconds), '--json'], { netns: from })
    if (done.code !== 0) return undefined
    const report = JSON.parse(done.stdout) as { end: { sum_received: { bits_per_second: number } } }
    return { tcp: report.end.sum_received.bits_per_second }
  } catch {
    return undefined
  } finally {
    await server.stop('SIGKILL')
  }
}
