/** What policy does, in words: which rule denies what, and how often each has decided. */
import type {
  ControlPlane,
  Denial,
  DenialsRead,
  FlowEntry,
  LearnedName,
} from '../../dataplane/control.ts'
import { attachmentId } from '../spec/attachment.ts'
import type { Attachment } from '../state/rows.ts'

/** Texts of rules by the numbers that programs have for them. */
export interface Rules {
  /** `NetworkPolicy shop/db, ingress rule 0`; undefined for a number that is none. */
  ruleText(origin: number): string | undefined
  /** All that there are, in the order of their numbers. */
  ruleTexts(): readonly string[]
}

export interface ToldDenial extends Omit<Denial, 'origin'> {
  /** Namespace and name of the pod, if known. */
  name?: string
  /** The rule. */
  by: string
}

/** A flow that policy lets through, by which rules of both ends. */
export interface ToldFlow extends Omit<FlowEntry, 'egress' | 'ingress'> {
  /** Absent where that end is no pod of this node, or nothing isolates it. */
  egress?: string
  ingress?: string
}

export interface ToldDenials {
  denials: readonly ToldDenial[]
  /** More that have been, and that nothing is known of. */
  missed: number
  /** To ask for those that come after. */
  read: DenialsRead
}

export interface RuleCount {
  rule: string
  /** New flows that it has decided, and packets that it has denied. */
  count: number
}

/** Of a number that the policy in force has no rule for. */
const UNKNOWN_RULE = 'no policy that is known'

/** Numbers of a cursor, at most. */
const MOST_READ = 64

/** What has been denied, or is to be told of, since `read`: the text of the cursor, empty for none. Throws Error for one that is none. */
export function toldDenials(
  plane: Pick<ControlPlane, 'denials'>,
  attachments: readonly Attachment[],
  { ruleText }: Rules,
  read: string,
): ToldDenials {
  const names = new Map(attachments.map(each => [attachmentId(each), each.pod]))
  const found = plane.denials(read === '' ? undefined : cursorOf(read))
  const denials = found.denials.map(({ origin, ...denial }): ToldDenial => {
    const name = denial.pod === undefined ? '' : (names.get(denial.pod) ?? '')
    const by = ruleText(origin) ?? UNKNOWN_RULE
    return { ...denial, by, ...(name === '' ? {} : { name }) }
  })
  return { ...found, denials }
}

/** The flows of policy, `most` of them. */
export function toldFlows(
  plane: Pick<ControlPlane, 'flows'>,
  { ruleText }: Rules,
  most: number,
): ToldFlow[] {
  const text = (origin: number): string => ruleText(origin) ?? UNKNOWN_RULE
  return plane.flows(most).map(({ egress, ingress, ...flow }) => ({
    ...flow,
    ...(egress === undefined ? {} : { egress: text(egress) }),
    ...(ingress === undefined ? {} : { ingress: text(ingress) }),
  }))
}

/** What pods have learned of names; of pods that are known by name it is that. */
export function toldNames(
  plane: Pick<ControlPlane, 'learnedNames'>,
  attachments: readonly Attachment[],
): LearnedName[] {
  const names = new Map(attachments.map(each => [attachmentId(each), each.pod]))
  return plane.learnedNames().map(each => ({ ...each, pod: names.get(each.pod) || each.pod }))
}

/** Rules that have decided something, those that did so most often first. */
export function ruleCounts(
  plane: Pick<ControlPlane, 'policyHits'>,
  { ruleTexts }: Rules,
): RuleCount[] {
  const rules = ruleTexts()
  const hits = plane.policyHits(rules.map((_, origin) => origin))
  return rules
    .map((rule, origin) => ({ rule, count: hits[origin] ?? 0 }))
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count)
}

function cursorOf(text: string): DenialsRead {
  const numbers = text.split(',').map(Number)
  if (numbers.length <= MOST_READ && numbers.every(Number.isSafeInteger)) return numbers
  throw new Error('denials: not a place to go on from')
}
