/**
 * Asks the tables that are in force, as a worker does: programs by the port's record, identities by address, names by
 * what the pod has learned. For people, and for the audit; on the main thread.
 */
import { native } from '../../native/native.ts'
import { ipWords } from '../addresses.ts'
import type { PodIdentity, PolicyAnswer, PolicyQuestion } from '../control.ts'
import { DnsWatch } from '../dns/watch.ts'
import { IdentityReader } from '../policy/identities.ts'
import { type PolicyMemory, policyAcl } from '../policy/memory.ts'
import { IPV4_PEER, PolicyReader, Questions } from '../policy/tables.ts'
import { IDENTITY, VERDICT } from '../policy-program.ts'

/** Whose program is asked: its number, and the port of the pod whose names count; -1: nobody's. */
export interface Asked {
  program: number
  port: number
}

const NO_NAMES = { found: new Uint16Array(0), count: 0 }

export class Answers {
  readonly identities: IdentityReader
  private readonly reader: PolicyReader
  private readonly names: DnsWatch | undefined
  private readonly questions = new Questions(1)

  constructor(memory: PolicyMemory) {
    const limits = { rules: memory.room.matches }
    this.reader = new PolicyReader(policyAcl.reader(memory.rules, limits), memory.facts, 1)
    this.identities = new IdentityReader(memory)
    this.names = memory.dns && new DnsWatch(memory.dns)
  }

  /** Who has an address: IDENTITY.WORLD, if nobody. */
  identityOf(address: Uint32Array): number {
    const index = this.identities.find(address.length === 1 ? 4 : 6, address, 0)
    return index === 0 ? IDENTITY.WORLD : this.identities.identity(index)
  }

  /** Whether the tables know an address as this. */
  knows(each: PodIdentity): boolean {
    const words = ipWords(each.address)
    const index = this.identities.find(words.length === 1 ? 4 : 6, words, 0)
    return index !== 0 && this.identities.is(index, each)
  }

  /** What `program` says of a new flow. Throws RangeError for a peer that is no address. */
  ask(asked: Asked, question: PolicyQuestion): PolicyAnswer {
    return this.tell(asked, this.identityOf(ipWords(question.peer)), question)
  }

  /** The same with a peer of this identity. */
  tell(
    { program, port }: Asked,
    identity: number,
    { peer, protocol, port: at }: PolicyQuestion,
  ): PolicyAnswer {
    const { questions } = this
    const words = ipWords(peer)
    questions.programs[0] = program
    questions.identities[0] = identity
    questions.addresses.fill(0)
    if (words.length === 1) questions.addresses.set([IPV4_PEER, 0, 0, words[0]!])
    else questions.addresses.set(words)
    questions.protocols[0] = protocol
    questions.ports[0] = at
    questions.setPatterns(0, NO_NAMES)
    if (this.names !== undefined && port >= 0 && this.reader.asksNames(program)) {
      const second = Math.floor(native.monotonic() / 1e9)
      this.names.find(port, words.length === 1 ? 4 : 6, words, 0, second, false)
      questions.setPatterns(0, this.names.patterns)
    }
    this.reader.judge(questions, 1)
    return {
      allowed: questions.verdicts[0] === VERDICT.ALLOW,
      origin: questions.origins[0]!,
      identity,
    }
  }
}
