/** An engine without devices that enforces policy on its pod: one batch of UDP packets, each of whatever flow is asked for. */
import type { PodPolicy } from '../../dataplane/control.ts'
import { Enforcement } from '../../dataplane/enforce/enforcement.ts'
import type { Engine } from '../../dataplane/engine/engine.ts'
import { type Path, run } from '../../dataplane/engine/path.ts'
import { BATCH_SIZE, FRAME_HEADROOM } from '../../dataplane/limits.ts'
import { Batch } from '../../dataplane/packet/batch.ts'
import { pathOfRole } from '../../dataplane/pipeline.ts'
import { Judge } from '../../dataplane/policy/judge.ts'
import {
  OPEN,
  type Program,
  podIdentity,
  type Rule,
  VERDICT,
} from '../../dataplane/policy-program.ts'
import { PORT_ROLE } from '../../dataplane/ports/port.ts'
import { native } from '../../native/native.ts'
import { writePacket } from '../wire/packets.ts'
import { ADDRESSES, makeWorld, POD, UNDERLAY } from '../wire/world.ts'

const ID = 'pod'
const IP_HEADER = 20
/** First destination port of the flows; each has as many source ports as there are. */
const FIRST_PORT = 8080
const SOURCE_PORTS = 60_000
export const REMOTE = podIdentity(2, 1)

/** `rules` rules that allow what none of the flows is, and behind them one that allows all of these. */
export function egressOf(rules: number): Program {
  if (rules === 0) return OPEN
  const others = Array.from({ length: rules - 1 }, (_, n): Rule => {
    const port = 1 + (n % 4000)
    return {
      verdict: VERDICT.ALLOW,
      origin: n,
      matches: [
        {
          peer: { value: podIdentity(3 + (n % 97), 1 + (n % 1009)), bits: 32 },
          protocol: n % 3 === 0 ? 6 : 17,
          ports: { first: port, last: port + (n % 5) },
        },
      ],
    }
  })
  const last: Rule = {
    verdict: VERDICT.ALLOW,
    origin: rules - 1,
    matches: [
      { peer: { value: REMOTE, bits: 32 }, protocol: 17, ports: { first: FIRST_PORT, last: 9000 } },
    ],
  }
  return { tiers: [{ rules: [...others, last], otherwise: VERDICT.DENY, origin: rules }] }
}

export class PolicyWorld {
  readonly engine: Engine
  readonly enforcement: Enforcement | undefined
  private readonly path: Path = pathOfRole(PORT_ROLE.POD)
  private readonly batch = new Batch()
  private readonly frames = new Uint32Array(BATCH_SIZE)
  private readonly lengths = new Uint32Array(BATCH_SIZE)
  private readonly ttls = new Uint32Array(BATCH_SIZE)

  /** `flows`: room of the flow table; undefined: policy is not switched on. */
  private constructor(flows: number | undefined) {
    const { engine, parts } = makeWorld(4)
    this.engine = engine
    native.bind(engine.bytes)
    if (flows !== undefined) {
      this.enforcement = new Enforcement(parts, { flows }, () => undefined)
      engine.judge = new Judge(this.enforcement.memory, 0)
    }
    for (let i = 0; i < BATCH_SIZE; i++) {
      const frame = engine.frames.small.take()
      const at = frame + FRAME_HEADROOM
      this.frames[i] = frame
      this.lengths[i] = writePacket(engine.view, at, 4, 'UDP', 'out', i)
      this.ttls[i] = engine.view.getUint32(at + 8)
    }
  }

  static async make(flows: number | undefined, rules: number): Promise<PolicyWorld> {
    const world = new PolicyWorld(flows)
    const { enforcement, engine } = world
    if (enforcement === undefined) return world
    const spec = { id: ID, kind: 'tun', netns: '', ifname: 'eth0' } as const
    const entry = await enforcement.enter(spec, POD)
    entry!.port = POD
    for (let port = 0; port < 2; port++) enforcement.table.setQuota(port, flows!)
    await world.set(egressOf(rules))
    engine.update()
    return world
  }

  /** Puts a program for what the pod sends in force. */
  async set(egress: Program): Promise<void> {
    const own: PodPolicy = { identity: podIdentity(1, 1), ingress: OPEN, egress }
    await this.enforcement!.set({
      identities: [
        { address: ADDRESSES[4].pod, identity: own.identity },
        { address: ADDRESSES[4].remote, identity: REMOTE },
      ],
      pods: new Map([[ID, own]]),
    })
    this.engine.update()
    for (const port of [POD, UNDERLAY]) this.engine.records[port] = this.engine.record(port)
  }

  /** Sends one batch, of flows `first`, `first + stride` and so on, modulo `of`. Throws when one is dropped. */
  send(first: number, stride: number, of: number): void {
    const { engine, batch, frames, lengths, ttls } = this
    const { view } = engine
    native.bind(engine.bytes)
    batch.reset(POD)
    for (let i = 0, flow = first % of; i < BATCH_SIZE; i++) {
      const at = frames[i]! + FRAME_HEADROOM
      view.setUint32(at + 8, ttls[i]!)
      view.setUint32(
        at + IP_HEADER,
        (((1024 + (flow % SOURCE_PORTS)) << 16) |
          (FIRST_PORT + Math.floor(flow / SOURCE_PORTS))) >>>
          0,
      )
      batch.push(frames[i]!, at, lengths[i]!)
      flow += stride
      if (flow >= of) flow %= of
    }
    run(engine, this.path, batch)
    for (let i = 0; i < BATCH_SIZE; i++) {
      if (batch.drop[i] !== 0) throw new Error(`a packet was dropped for reason ${batch.drop[i]}`)
    }
  }
}
