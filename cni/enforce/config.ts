/** `policy` of the daemon's configuration: with it policies are enforced. */
import { z } from 'zod'
import { clean } from '../base/document.ts'
import { file } from '../base/fields.ts'
import { policyCidr } from '../policy/networks.ts'

export const DEFAULT_POLICY_FOLDER = '/etc/hawser/policy'

/** Far above what the engine has room for by default; what is too much for it, it says. */
const MOST = 1 << 26

/** Resolvers that may be named, and the shortest prefixes: whose answers count is nobody's guess. */
const MOST_RESOLVERS = 64
const SHORTEST = { 4: 16, 6: 48 } as const

/** An address, or a CIDR without host bits. */
const resolver = z.string().superRefine((text, context) => {
  const whole = text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`
  const parsed = policyCidr(whole)
  const cause =
    'cause' in parsed
      ? 'neither an address nor a CIDR'
      : parsed.hostBits
        ? 'host bits are set'
        : parsed.cidr.prefix < SHORTEST[parsed.cidr.family]
          ? `more than a /${SHORTEST[parsed.cidr.family]}: name those that answer`
          : undefined
  if (cause === undefined) return
  context.addIssue({ code: 'custom', message: `${clean(text)}: ${cause}`, input: text })
})

const limit = z.int().min(1).max(MOST).optional()

export const policySection = z.strictObject({
  folder: file.default(DEFAULT_POLICY_FOLDER),
  /** These are `PolicyLimits` of the engine. */
  matches: limit,
  addresses: limit,
  /** How many flows are known at once; or that and what one pod may have of it. */
  flows: z
    .union([
      z.int().min(1).max(MOST),
      z.strictObject({ most: limit, ofPod: limit, withPod: limit, halfOpenOfPod: limit }),
    ])
    .optional(),
  dns: z.strictObject({ resolvers: z.array(resolver).max(MOST_RESOLVERS).default([]) }).optional(),
})
