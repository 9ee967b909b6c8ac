/** What the command line may ask the daemon: the name of a question, and what answers it. */
import { clean } from '../base/document.ts'
import type { ClusterFollower } from '../cluster/follow.ts'
import { type Rules, ruleCounts, toldDenials, toldFlows, toldNames } from '../enforce/told.ts'
import { lowNotes } from '../ipam/allocator.ts'
import { wholePools } from '../ipam/pools.ts'
import { checkAddresses, repairAddresses, showAddresses } from '../pods/address-check.ts'
import type { Node } from '../pods/node.ts'
import { podFacts, secondaryNotes } from '../secondary/verbs.ts'
import { readiness } from '../verbs/status.ts'

/** The question that is an order; what stands behind it is a FIB's name or file. */
const SWAP_FIB = 'swap fib '

/** The question that says how far the one who asks has read. */
const DENIALS = 'denials '

/** The question about a flow: JSON. */
const EXPLAIN = 'policy explain '

/** Flows of one answer. */
const MOST_FLOWS = 100_000

const QUESTIONS: Readonly<Record<string, (node: Node, notes: () => readonly string[]) => unknown>> =
  {
    status: (node, notes) => {
      const status = node.plane.status()
      const said = [...status.notes, ...notes(), ...nodeNotes(node)]
      return { ...status, notes: said, policy: node.policy?.status() }
    },
    ready: node => readiness(node),
    pods: node => podFacts(node.plane.pods(), node.state),
    routes: node => node.plane.routes(),
    drops: node => node.plane.drops(),
    flows: node => toldFlows(node.plane, policyOf(node), MOST_FLOWS),
    'policy names': node => policyOf(node) && toldNames(node.plane, node.state.list()),
    'policy known': node => needed(node).known(),
    'policy rules': node => ruleCounts(node.plane, policyOf(node)),
    'ipam show': node => showAddresses(node),
    'ipam check': node => checkAddresses(node),
    'ipam repair': node => repairAddresses(node),
  }

/**
 * Answers questions about `node`; `follower`: of the cluster file, once it is followed. Rejects for one
 * that is none.
 */
export function questions(
  node: Node,
  follower: () => ClusterFollower | undefined,
): (name: string) => Promise<unknown> {
  return async name => {
    if (name.startsWith(SWAP_FIB)) return node.plane.swapFib(name.slice(SWAP_FIB.length))
    if (name.startsWith(DENIALS)) {
      return toldDenials(node.plane, node.state.list(), policyOf(node), name.slice(DENIALS.length))
    }
    if (name.startsWith(EXPLAIN)) return needed(node).explain(name.slice(EXPLAIN.length))
    if (!Object.hasOwn(QUESTIONS, name)) throw new Error(`no such question: ${name}`)
    return QUESTIONS[name]?.(node, () => follower()?.notes() ?? [])
  }
}

/** Throws Error where no policy is enforced. */
function policyOf(node: Node): Rules {
  return needed(node)
}

function needed({ policy }: Node): NonNullable<Node['policy']> {
  if (policy === undefined) {
    throw new Error('no policy is enforced here ("policy" in the configuration of the daemon)')
  }
  return policy
}

/** What an operator should know beside what the engine says. */
function nodeNotes(node: Node): string[] {
  const pools = wholePools(node).flatMap(each => each.pools)
  const { state, pods } = node
  const { problem, remarks } = node.installation?.() ?? { problem: undefined, remarks: [] }
  const unwritable = state.unwritable()
  return [
    ...(unwritable === undefined ? [] : [`the state file ${unwritable}`]),
    ...(problem === undefined ? [] : [`installing: ${problem}`]),
    ...remarks,
    ...(node.policy?.notes() ?? []),
    ...[...pods.troubles.sentences(), ...lowNotes(state, pools), ...secondaryNotes(state)],
    ...[...(node.remarks ?? [])].flatMap(([network, remarks]) =>
      remarks.map(remark => `STATUS of ${clean(network)}: ${remark}`),
    ),
  ]
}
