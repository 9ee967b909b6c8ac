/**
 * Which port of the node leads to which pod. The rows of the state say it durably; this is the same
 * in memory, to see at once that a port is taken, and what is told to the engine, whole, at each
 * change.
 *
 * A port is claimed before anything is made for a pod, in one step, so that of two pods that ask at
 * the same time one is refused. Two mappings meet when protocol and port are the same and one is on
 * all addresses of the other's family, or both are on the same address.
 */
import type { ControlPlane, PodPorts, PortMapping } from '../../dataplane/control.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { type Attachment, attachmentId } from '../state/state.ts'

interface Claim extends PodPorts {
  /** Who has it, for people. */
  owner: string
}

export class PortMappings {
  readonly #plane: ControlPlane
  readonly #claims = new Map<string, Claim>()
  /** Ids whose mappings the engine has in force. */
  #told: ReadonlySet<string> = new Set()
  /** One change at a time: what is told to the engine would be unsure while another is under way. */
  #turn: Promise<void> = Promise.resolve()

  constructor(plane: ControlPlane) {
    this.#plane = plane
  }

  /** What an earlier daemon has left in force. */
  load(attachments: readonly Attachment[]): void {
    for (const each of attachments) {
      const claim = claimOf(each)
      if (claim !== undefined) this.#claims.set(attachmentId(each), claim)
    }
    this.#told = new Set(this.#claims.keys())
  }

  /** Claims what the attachment asks for; throws CniError: code 11 when a pod has it, 7 when it can't be. */
  claim(attachment: Attachment): void {
    const claim = claimOf(attachment)
    if (claim === undefined) return
    const id = attachmentId(attachment)
    for (const mapping of claim.mappings) {
      const lacking = lackingFamily(claim, mapping)
      if (lacking !== undefined) {
        throw new CniError(
          CODE.config,
          `${claim.owner}: ${portText(mapping)} is on an IPv${lacking} address, the pod has none`,
        )
      }
      for (const [other, { owner, mappings }] of [...this.#claims, [id, claim] as const]) {
        const taken = mappings.find(each => each !== mapping && meet(each, mapping))
        if (taken === undefined) continue
        throw new CniError(
          other === id ? CODE.config : CODE.tryAgain,
          `${claim.owner}: ${portText(mapping)} is taken: ${portText(taken)} leads to ${owner}`,
          'it is free when that pod is deleted',
        )
      }
    }
    this.#claims.set(id, claim)
  }

  /** Puts what an attachment has claimed in force. Throws CniError (code 5), and nothing has changed. */
  async open(id: string): Promise<void> {
    if (this.#claims.has(id)) await this.restore()
  }

  /** Gives back what an attachment has claimed, if anything. Throws when the engine still has it in force. */
  async close(id: string): Promise<void> {
    if (!this.#claims.has(id)) return
    await this.#inTurn(async () => {
      // The claim stays until the port is free: nobody may take it before.
      if (this.#told.has(id)) await this.#tell(id)
      this.#claims.delete(id)
    })
  }

  /** Puts all that is claimed in force, and nothing else. Throws CniError (code 5), and nothing has changed. */
  restore(): Promise<void> {
    return this.#inTurn(() => this.#tell())
  }

  /** What of an attachment's, or of all that were put in force, is lost: sentences. Never rejects. */
  lost(id?: string): Promise<readonly string[]> {
    return this.#inTurn(async () => {
      const asked = [...this.#claims].filter(
        ([each]) => this.#told.has(each) && (id === undefined || each === id),
      )
      if (asked.length === 0) return []
      try {
        return await this.#plane.verifyPortMappings(asked.map(([, claim]) => portsOf(claim)))
      } catch (error) {
        return [(error as Error).message]
      }
    })
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work)
    this.#turn = mine.then(
      () => {},
      () => {},
    )
    return mine
  }

  async #tell(without?: string): Promise<void> {
    const all = new Map(this.#claims)
    if (without !== undefined) all.delete(without)
    try {
      await this.#plane.setPortMappings([...all.values()].map(portsOf))
    } catch (error) {
      throw new CniError(CODE.io, (error as Error).message, '', { cause: error })
    }
    this.#told = new Set(all.keys())
  }
}

function portsOf({ owner: _, ...ports }: Claim): PodPorts {
  return ports
}

function claimOf(attachment: Attachment): Claim | undefined {
  const { ip4, ip6, pod, runtime } = attachment
  const mappings = runtime?.portMappings
  if (mappings === undefined) return undefined
  const id = attachmentId(attachment)
  return {
    owner: pod === '' ? id : `${pod} (${id})`,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    mappings,
  }
}

/** The family that the mapping's address is of and the pod has no address of. */
function lackingFamily({ ip4, ip6 }: PodPorts, { hostIP }: PortMapping): 4 | 6 | undefined {
  if (hostIP === undefined) return undefined
  if (hostIP.includes(':')) return ip6 === undefined ? 6 : undefined
  return ip4 === undefined ? 4 : undefined
}

/** Whether one packet could be meant for both. */
export function meet(a: PortMapping, b: PortMapping): boolean {
  if (a.protocol !== b.protocol || a.hostPort !== b.hostPort) return false
  if (a.hostIP === undefined || b.hostIP === undefined || a.hostIP === b.hostIP) return true
  const sameFamily = a.hostIP.includes(':') === b.hostIP.includes(':')
  return sameFamily && [a.hostIP, b.hostIP].some(ip => ip === '0.0.0.0' || ip === '::')
}

/** `192.0.2.1:80/tcp`; `*:80/tcp` on all addresses. */
function portText({ hostIP, hostPort, protocol }: PortMapping): string {
  const address = hostIP?.includes(':') ? `[${hostIP}]` : (hostIP ?? '*')
  return `host port ${address}:${hostPort}/${protocol}`
}
