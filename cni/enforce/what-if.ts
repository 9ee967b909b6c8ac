/** What a running node's policies would come to with manifests that are not in force: nothing is enforced by asking. */
import { z } from 'zod'
import { validate } from '../base/document.ts'
import type { Manifest } from '../base/manifests.ts'
import { labelsSchema } from '../model/labels.ts'
import { Explainer } from '../policy/explain.ts'
import { policiesIn } from '../policy/files.ts'
import { withOwn } from './compiled.ts'

/** What a daemon answers to `policy known` (keeper.ts). */
const knownSchema = z.strictObject({
  objects: z.array(z.unknown()),
  own: z.array(
    z.strictObject({
      id: z.string(),
      namespace: z.string(),
      name: z.string(),
      labels: labelsSchema,
      addresses: z.array(z.string()),
    }),
  ),
})

const identified = z.looseObject({
  kind: z.string().optional(),
  metadata: z
    .looseObject({ name: z.string(), namespace: z.string().default('default') })
    .optional(),
})

/** `more` replaces objects of the same kind, namespace and name. Throws DocumentError for what can't be used. */
export function whatIf(known: unknown, more: readonly Manifest[]): Explainer {
  const { objects, own } = validate('the daemon', knownSchema, known)
  const replaced = new Set(more.map(({ object }) => nameOf(object)))
  const line = (): number => 1
  const kept = objects
    .filter(object => !replaced.has(nameOf(object)))
    .map((object): Manifest => ({ file: 'in force', object, line }))
  return new Explainer(withOwn(policiesIn([...kept, ...more]).world, own))
}

function nameOf(object: unknown): string {
  const { kind, metadata } = identified.safeParse(object).data ?? {}
  return JSON.stringify([kind, metadata?.namespace, metadata?.name])
}
