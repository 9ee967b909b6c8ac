/** `ipam` of the daemon's configuration. */
import { z } from 'zod'
import { MAX_EXCLUSIONS, parseExclusion } from './ranges.ts'

/** An address or a CIDR. */
const exclusion = z.string().superRefine((text, context) => {
  const block = parseExclusion(text)
  if ('cause' in block) context.addIssue({ code: 'custom', message: block.cause, input: text })
})

export const ipamSection = z.strictObject({
  /** Addresses that no pod may have. */
  exclude: z.array(exclusion).max(MAX_EXCLUSIONS).optional(),
})
