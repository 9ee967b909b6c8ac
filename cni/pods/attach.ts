/** ADD of a pod, all or nothing; pods.ts has the order of its steps, and of those that undo it. */
import type { AttachKind, PodAttachment } from '../../dataplane/control.ts'
import { hasInterface } from '../../dataplane/netns.ts'
import { faultPoint } from '../base/fault-points.ts'
import type { Logger } from '../base/logger.ts'
import { reserve, type Wanted } from '../ipam/allocator.ts'
import { askDelegate, type Delegated, giveBack, type Reserved } from '../ipam/delegations.ts'
import type { Gateways } from '../ipam/lease.ts'
import { gatewayFor, type Pool } from '../ipam/ranges.ts'
import { type Address, storedAddress } from '../netip/cidr.ts'
import { addSecondaries, type WantedSecondaries } from '../secondary/interfaces.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { Dns } from '../spec/netconf.ts'
import type { Runtime } from '../spec/runtime-config.ts'
import { type AttachmentKey, attachmentId, type State } from '../state/state.ts'
import { hasInterfaceOf, remove, undoFurther } from './detach.ts'
import { look, podNamespace } from './namespace.ts'
import { open, type PodsContext } from './parts.ts'

export interface PodRequest extends AttachmentKey {
  netns: string
  kind: AttachKind
  mtu?: number
  pod: string
  runtime?: Runtime
  /** As in its row. */
  overlay?: string
  /** Where its addresses come from. */
  from: OwnAddresses | Delegated
  /** Its further interfaces; absent: none. */
  secondaries?: WantedSecondaries
}

/** Out of the node's pools, those in `asked` where it names one. */
export interface OwnAddresses {
  pools: readonly Pool[]
  asked: readonly Address[]
}

/** What ADD has made. */
export interface Added {
  attachment: PodAttachment
  /** As the pools or the IPAM plugin have them; a family may lack one. */
  gateways: Gateways
  /** What the IPAM plugin said. */
  dns?: Dns
}

type Undo = (() => void | Promise<void>)[]

/** `Pods.add`. */
export async function add(
  context: PodsContext,
  request: PodRequest,
  late: AbortSignal,
): Promise<Added> {
  const { plane, state, ports, log, policies } = context
  const { network, containerId, netns, ifname, from, secondaries } = request
  const key = { network, containerId, ifname }
  const id = attachmentId(key)
  faultPoint('add.begun')
  const namespace = podNamespace(netns)
  await clear(context, key)
  // Of our own addresses the engine sees it in time; a plugin shall not be asked in vain.
  if ('call' in from && hasInterface(netns, ifname)) throw alreadyThere(netns, ifname)
  const undo: Undo = []
  try {
    const wanted = wantedOf(request, namespace)
    const { reserved, ...given } =
      'call' in from
        ? await askDelegate(context, from, wanted, late, undo)
        : fromPools(state, from, wanted)
    undo.push(() => {
      state.release(key)
      policies?.changed()
    })
    // The disk takes it while the interface is made.
    const durable = state.durable()
    durable.catch(() => {})
    faultPoint('add.reserved')
    ports.claim(reserved)
    undo.push(() => ports.close(id))
    late.throwIfAborted()
    const attachment = await open(context, reserved, undefined, late).catch((error: unknown) => {
      if ((error as { code?: string }).code === 'EEXIST') throw alreadyThere(netns, ifname)
      if (error instanceof CniError) throw error
      throw new CniError(CODE.io, (error as Error).message, '', { cause: error })
    })
    undo.push(() => plane.detach(id))
    faultPoint('add.made')
    await ports.open(id)
    faultPoint('add.mapped')
    late.throwIfAborted()
    if (secondaries !== undefined) {
      // What fails of it is logged, and stays kept for the next attempt.
      undo.push(() => undoFurther(context, key).catch(() => {}))
      await addSecondaries(context, key, secondaries, late)
    }
    state.markAttached(key, attachment.mtu)
    await durable
    faultPoint('add.attached')
    return { attachment, ...given }
  } catch (error) {
    await undoAll(log, id, undo)
    throw error
  }
}

/** Nothing of an earlier attempt stays. Throws CniError when it is attached, and well. */
async function clear(context: PodsContext, key: AttachmentKey): Promise<void> {
  const { state } = context
  const earlier = state.get(key)
  if (earlier !== undefined) {
    if (earlier.phase === 'attached' && look(earlier) !== 'gone' && hasInterfaceOf(earlier)) {
      const what = `${attachmentId(key)}: it is attached already`
      throw new CniError(CODE.exists, what, 'DEL it first')
    }
    await remove(context, key)
  }
  if (state.secondaries(key).length > 0) await undoFurther(context, key)
  if (state.delegation(key) !== undefined) await giveBack(context, key)
  // What a plugin that is missing can't take back must not pass for this attachment's.
  for (const { position } of state.secondaries(key)) state.forgetSecondary(key, position)
  if (state.delegation(key) !== undefined) state.forgetDelegation(key)
}

function wantedOf(
  { network, containerId, ifname, netns, kind, mtu, pod, runtime, overlay }: PodRequest,
  { dev, ino }: { dev: bigint; ino: bigint },
): Wanted {
  return {
    ...{ network, containerId, ifname },
    ...{ netns, netnsDev: String(dev), netnsIno: String(ino) },
    kind,
    pod,
    ...(mtu === undefined ? {} : { mtu }),
    ...(runtime === undefined ? {} : { runtime }),
    ...(overlay === undefined ? {} : { overlay }),
  }
}

function fromPools(state: State, { pools, asked }: OwnAddresses, wanted: Wanted): Reserved {
  const reserved = reserve(state, pools, asked, wanted)
  const gateways: Gateways = {}
  for (const pool of pools) {
    const ip = pool.family === 4 ? reserved.ip4 : reserved.ip6
    const via = ip === undefined ? undefined : gatewayFor(pool, storedAddress(ip))
    if (via !== undefined) gateways[pool.family] = via
  }
  return { reserved, gateways }
}

/** Undoes in reverse and stops at the first failure: what lies before it still may be in use. */
async function undoAll(log: Logger, id: string, undo: Undo): Promise<void> {
  try {
    for (const step of undo.reverse()) await step()
  } catch (error) {
    const cause = (error as Error).message
    log.error({ attachment: id, cause }, 'a failed ADD is not undone whole; DEL tries again')
  }
}

function alreadyThere(netns: string, ifname: string): CniError {
  return new CniError(CODE.exists, `${ifname} in ${netns}: the interface is there already`)
}
