/** `policy` of the daemon's configuration: with it policies are enforced. */
import { z } from 'zod'
import { file } from '../base/fields.ts'

export const DEFAULT_POLICY_FOLDER = '/etc/hawser/policy'

/** Far above what the engine has room for by default; what is too much for it, it says. */
const MOST = 1 << 26

const limit = z.int().min(1).max(MOST).optional()

export const policySection = z.strictObject({
  folder: file.default(DEFAULT_POLICY_FOLDER),
  /** These are `PolicyLimits` of the engine. */
  matches: limit,
  addresses: limit,
  flows: limit,
})
