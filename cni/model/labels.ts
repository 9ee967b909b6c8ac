/**
 * Labels and label selectors as Kubernetes has them ("Labels and Selectors" of its documentation;
 * k8s.io/apimachinery, pkg/apis/meta/v1: LabelSelector).
 */
import { z } from 'zod'

export type Labels = Readonly<Record<string, string>>

/** Bounds of what one object may say. */
const MAX_LABELS = 1024
const MAX_REQUIREMENTS = 256
const MAX_VALUES = 1024

/** `[prefix/]name`: a DNS subdomain of at most 253 characters, and a name of at most 63. */
const KEY =
  /^(?:[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/
const VALUE = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/

const key = z.string().max(317).regex(KEY, { error: 'not a label key' })
const value = z.string().regex(VALUE, { error: 'not a label value' })

export const labelsSchema = z
  .record(key, value)
  .refine(labels => Object.keys(labels).length <= MAX_LABELS, {
    error: `more than ${MAX_LABELS} labels`,
  })

const requirementSchema = z
  .strictObject({
    key,
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
    values: z.array(value).max(MAX_VALUES).nullish(),
  })
  .superRefine(({ operator, values }, context) => {
    const needed = operator === 'In' || operator === 'NotIn'
    if (needed === (values ?? []).length > 0) return
    const message = needed ? `${operator} needs values` : `${operator} takes no values`
    context.addIssue({ code: 'custom', path: ['values'], message, input: values })
  })

export const selectorSchema = z.strictObject({
  matchLabels: labelsSchema.nullish(),
  matchExpressions: z.array(requirementSchema).max(MAX_REQUIREMENTS).nullish(),
})

/** All of its parts must be true; an empty one selects everything. */
export type LabelSelector = z.output<typeof selectorSchema>

/** Whether `labels` are selected. A key that is absent is `NotIn` whatever values. */
export function selects({ matchLabels, matchExpressions }: LabelSelector, labels: Labels): boolean {
  for (const [name, wanted] of Object.entries(matchLabels ?? {})) {
    if (!Object.hasOwn(labels, name) || labels[name] !== wanted) return false
  }
  return (matchExpressions ?? []).every(({ key: name, operator, values }) => {
    const has = Object.hasOwn(labels, name)
    if (operator === 'Exists') return has
    if (operator === 'DoesNotExist') return !has
    const listed = has && (values ?? []).includes(labels[name]!)
    return operator === 'In' ? listed : !listed
  })
}
