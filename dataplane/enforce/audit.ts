/**
 * The tables that policy is enforced by, compared with what they should say: programs by questions that their own
 * rules are about, answered by the tables and rule by rule; who has which address. Each look asks a part of a long program, and
 * the next one the part behind.
 */
import { ipWords, wordsToIp } from '../addresses.ts'
import type { PodIdentity, PolicyQuestion } from '../control.ts'
import { evaluate } from '../policy/evaluate.ts'
import type { PolicyTables } from '../policy/tables.ts'
import { type Match, type Program, VERDICT } from '../policy-program.ts'
import type { Answers } from './answers.ts'

/** Matches of a program that one look asks about, and rules that they may meet in all when it is read rule by rule. */
const MATCHES = 64
const MEETINGS = 1_000_000
/** Addresses, or programs, before others have their turn. */
const SLICE = 512

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** Numbers of programs that the tables don't carry out as they are written. `round`: of the look. */
export async function wrongPrograms(
  tables: PolicyTables,
  answers: Answers,
  round: number,
): Promise<number[]> {
  const wrong: number[] = []
  let looked = 0
  for (const [number, program] of [...tables.programs()]) {
    if (!carriesOut(answers, number, program, round)) wrong.push(number)
    if (++looked % SLICE === 0) await turn()
  }
  return wrong
}

function carriesOut(answers: Answers, number: number, program: Program, round: number): boolean {
  const matches = program.tiers.flatMap(({ rules }) => rules.flatMap(rule => rule.matches))
  const most = Math.min(MATCHES, Math.ceil(MEETINGS / (matches.length + 1)))
  const from = matches.length > most ? (round * most) % matches.length : 0
  const some = [...matches.slice(from, from + most), {}]
  return some.every(match => {
    const { identity, question } = within(match)
    const told = answers.tell({ program: number, port: -1 }, identity, question)
    const { peer, protocol, port } = question
    const said = evaluate(program, { identity, address: ipWords(peer), protocol, port })
    return told.allowed === (said.verdict === VERDICT.ALLOW) && told.origin === said.origin
  })
}

/** A question that the match is about, if no name is. */
function within({ peer, network, protocol = 0, ports, icmp }: Match): {
  identity: number
  question: PolicyQuestion
} {
  return {
    identity: peer?.value ?? 0,
    question: {
      direction: 'ingress',
      peer: network === undefined ? '0.0.0.0' : wordsToIp(network.words),
      protocol,
      port: icmp === undefined ? (ports?.first ?? 0) : (icmp.type << 16) | (icmp.code ?? 0),
    },
  }
}

/** Addresses that are not whose they should be. */
export async function wrongIdentities(
  answers: Answers,
  wanted: readonly PodIdentity[],
): Promise<string[]> {
  const wrong: string[] = []
  for (const [k, each] of wanted.entries()) {
    if (!answers.knows(each)) wrong.push(each.address)
    if (k % SLICE === SLICE - 1) await turn()
  }
  return wrong
}
