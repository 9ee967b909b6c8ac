/** One run of one contender: start, prove the packets, warm up, count for a while, stop. */
import { readdirSync, readFileSync } from 'node:fs'
import { during, type Program } from '../harness/program.ts'
import {
  type Contender,
  type Cpus,
  type Generator,
  type Name,
  type PolicyFacts,
  STEADY,
  startForwarder,
  startGenerator,
  startSink,
  type Traffic,
} from './contenders.ts'
import { DENIED_PORT } from './rules.ts'

/** Packets at the sink that are compared byte by byte before anything is counted. */
const VERIFY = 64
/** Long enough for a JIT compiler to have finished. */
const WARM_UP_MS = 1500
/** The same where every packet begins a flow, and room for flows is what the run ends with. */
const FRESH_WARM_UP_MS = 800
/** What is denied is sent for so long. */
const DENIED_MS = 200

export interface Sample {
  /** Packets a second at the sink. */
  rate: number
  /** Packets a second that the generator sent. */
  sent: number
  /** ns of CPU a packet at the sink: the forwarder's own process, its empty polls left out; 0 for none. */
  forwarderNs: number
  /** The same for generator, forwarder and the kernel's softirq threads together. */
  allNs: number
}

interface Counters {
  sink: Record<'packets' | 'other' | 'ns', number>
  generator: Record<'packets' | 'cpuNs' | 'ns', number>
  forwarder: Record<'cpuNs' | 'idleNs' | 'ns', number> | undefined
  softirqNs: number
}

export async function measure(
  name: Name,
  contender: Contender,
  generator: Generator,
  cpus: Cpus,
  seconds: number,
  traffic: Traffic = STEADY,
): Promise<Sample> {
  const alone = name === 'generator'
  const running: Program[] = []
  const start = async (program: Program | undefined) => {
    if (program === undefined) return undefined
    running.unshift(program)
    await program.ready()
    return program
  }
  try {
    const { flows, fresh } = traffic
    // A flow of UDP is established, for the kernel, with its first answer.
    const proof = { verify: alone ? 0 : VERIFY, replies: contender.policed && !fresh ? flows : 0 }
    const sink = (await start(startSink(contender, alone, { ...proof, flows }, cpus)))!
    const forwarder = await start(startForwarder(name, contender))
    const policy = async () => contender.kernelPolicy?.facts() ?? (await policyOf(forwarder!))
    if (contender.policed) {
      contender.kernelPolicy?.forget()
      const { denied } = await policy()
      const wrong = startGenerator(generator, contender, cpus, traffic, DENIED_PORT)
      await wrong.ready()
      await during(DENIED_MS)
      await wrong.stop()
      // Had one reached the sink, that would have ended with an error.
      if ((await policy()).denied === denied) throw new Error('nothing was denied')
      contender.kernelPolicy?.forget()
    }
    const source = (await start(startGenerator(generator, contender, cpus, traffic)))!
    await sink.figures(['verified'])
    await during(fresh ? FRESH_WARM_UP_MS : WARM_UP_MS)
    const read = async (): Promise<Counters> => ({
      sink: await sink.ask(['packets', 'other', 'ns']),
      generator: await source.ask(['packets', 'cpuNs', 'ns']),
      forwarder: await forwarder?.ask(['packets', 'cpuNs', 'idleNs', 'ns']),
      softirqNs: softirqThreadsNs(),
    })
    const before = await read()
    await during(seconds * 1000)
    const after = await read()
    if (fresh) checkFresh(flows, before, after, await policy())
    else if ((contender.kernelPolicy?.answered() ?? flows) < flows) {
      throw new Error('there are flows that were never established')
    }
    return evaluate(name, before, after)
  } catch (error) {
    throw new Error(`${name}: ${error instanceof Error ? error.message : error}`)
  } finally {
    for (const program of running) await program.stop()
    contender.kernelPolicy?.forget()
  }
}

async function policyOf(forwarder: Program): Promise<PolicyFacts> {
  return forwarder.ask(['denied', 'live', 'refused'])
}

/** Throws unless every packet that was counted has begun a flow, which was kept. */
function checkFresh(flows: number, before: Counters, after: Counters, policy: PolicyFacts): void {
  if (after.generator.packets > flows) {
    throw new Error(`all ${flows} flows were sent: fewer --seconds are needed`)
  }
  if (policy.refused > 0) {
    throw new Error(`${policy.refused} flows found no room: fewer --seconds are needed`)
  }
  const counted = after.sink.packets - before.sink.packets
  if (policy.live < counted) throw new Error(`${policy.live} flows are kept of ${counted}`)
}

function evaluate(name: Name, a: Counters, b: Counters): Sample {
  const perSecond = (before: number, after: number, span: number) => ((after - before) / span) * 1e9
  const sinkNs = b.sink.ns - a.sink.ns
  const generatorNs = b.generator.ns - a.generator.ns
  const wanted = name === 'generator' ? 'other' : 'packets'
  const stray = name === 'generator' ? 'packets' : 'other'
  const rate = perSecond(a.sink[wanted], b.sink[wanted], sinkNs)
  if (rate === 0) throw new Error('no packet reached the sink while it counted')
  const strayRate = perSecond(a.sink[stray], b.sink[stray], sinkNs)
  if (strayRate > rate / 1000) {
    throw new Error(`${strayRate.toFixed(0)} packets/s at the sink were not what they must be`)
  }
  const busy = b.forwarder && a.forwarder ? b.forwarder.cpuNs - a.forwarder.cpuNs : 0
  const idle = b.forwarder && a.forwarder ? b.forwarder.idleNs - a.forwarder.idleNs : 0
  const span = b.forwarder && a.forwarder ? b.forwarder.ns - a.forwarder.ns : 1
  const forwarder = perSecond(0, busy - idle, span)
  const generatorCpu = perSecond(a.generator.cpuNs, b.generator.cpuNs, generatorNs)
  const softirq = perSecond(a.softirqNs, b.softirqNs, sinkNs)
  return {
    rate,
    sent: perSecond(a.generator.packets, b.generator.packets, generatorNs),
    forwarderNs: forwarder / rate,
    allNs: (forwarder + generatorCpu + softirq) / rate,
  }
}

/** CPU time of all ksoftirqd threads: softirq work that no process was charged for. */
function softirqThreadsNs(): number {
  let sum = 0
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    try {
      if (!readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('ksoftirqd/')) continue
      sum += Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0])
    } catch {
      // It ended meanwhile; those that are looked for don't.
    }
  }
  return sum
}
