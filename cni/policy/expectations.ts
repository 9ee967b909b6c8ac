/**
 * A file of expectations, for one's own continuous integration:
 *
 *     expectations:
 *       - { from: shop/web, to: shop/db, port: 5432, allowed: true }
 *       - { from: shop/web, to: 192.0.2.80, toName: api.example.org, port: 443, allowed: true }
 *       - { from: 192.0.2.7, to: shop/db, port: 5432, protocol: TCP, allowed: false }
 */
import { z } from 'zod'
import { parseText, readBounded, validate } from '../base/document.ts'
import { plainName } from '../model/cluster-network-policy.ts'
import { EXPLAINED_PROTOCOLS, Explainer, type Explanation, type Flow } from './explain.ts'
import type { PolicyWorld } from './sources.ts'

const fileSchema = z.strictObject({
  expectations: z
    .array(
      z.strictObject({
        from: z.string().max(512),
        to: z.string().max(512),
        toName: plainName.optional(),
        port: z.int().min(0).max(65_535).default(0),
        protocol: z.enum(EXPLAINED_PROTOCOLS).default('TCP'),
        allowed: z.boolean(),
      }),
    )
    .min(1)
    .max(100_000),
})

export type Expectation = Flow & { allowed: boolean }

/** An expectation and what is the case. */
export interface Outcome {
  expectation: Expectation
  explanation: Explanation
  met: boolean
}

/** Reads the file; throws DocumentError. */
export function readExpectations(file: string): Expectation[] {
  return validate(file, fileSchema, parseText(file, readBounded(file))).expectations
}

/** Tries all of them; throws Error for one whose end is neither a pod nor an address. */
export function tryExpectations(
  world: PolicyWorld,
  expectations: readonly Expectation[],
): Outcome[] {
  const explainer = new Explainer(world)
  return expectations.map(expectation => {
    const explanation = explainer.explain(expectation)
    return { expectation, explanation, met: explanation.allowed === expectation.allowed }
  })
}
