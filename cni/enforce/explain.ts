/**
 * Why a flow is let through or not on this running node. Ends that are pods of this node, and the node itself, are
 * asked of the tables that are in force; those elsewhere of the policies that this node knows, as their node would have them.
 */
import { z } from 'zod'
import type { ControlPlane } from '../../dataplane/control.ts'
import { validate } from '../base/document.ts'
import { qualified } from '../model/facts.ts'
import { EXPLAINED_PROTOCOLS, Explainer, type Explanation } from '../policy/explain.ts'
import type { PolicyWorld } from '../policy/sources.ts'
import type { OwnPod } from './own-pods.ts'
import type { Rules } from './told.ts'

const end = z.string().min(1).max(512)
const flowSchema = z.strictObject({
  from: end,
  to: end,
  port: z.int().min(0).max(65_535),
  protocol: z.enum(EXPLAINED_PROTOCOLS),
  toName: z.string().max(253).optional(),
})

/** `asked`: a Flow as JSON. Throws Error for one that is none, or whose ends nobody knows. */
export function explainRunning(
  plane: Pick<ControlPlane, 'askPolicy'>,
  world: PolicyWorld,
  own: readonly OwnPod[],
  { ruleText }: Pick<Rules, 'ruleText'>,
  asked: string,
): Explanation {
  const flow = validate('the question', flowSchema, JSON.parse(asked))
  const ids = new Map(own.map(pod => [qualified(pod), pod.id]))
  const explainer = new Explainer(world, (pod, direction, peer, protocol, port) => {
    const id = pod === undefined ? undefined : ids.get(pod)
    if (pod !== undefined && id === undefined) return undefined
    const question = { direction, peer, protocol, port }
    const answer = plane.askPolicy(id === undefined ? question : { ...question, pod: id })
    return answer && { allowed: answer.allowed, by: ruleText(answer.origin) }
  })
  return explainer.explain(flow)
}
