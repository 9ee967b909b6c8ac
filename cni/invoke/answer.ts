/** What another plugin answered to an ADD. */
import { check } from '../spec/check.ts'
import { CniError, CODE } from '../spec/errors.ts'
import { dnsSchema, versionIn } from '../spec/netconf.ts'
import { parseResult, type Result } from '../spec/result.ts'
import { CNI_VERSIONS, type CniVersion } from '../spec/versions.ts'

/**
 * What plugin `who` answered to an ADD of `version`; the answer's own version counts if it has a known
 * one. Throws CniError (code 6).
 */
export function resultIn(who: string, version: CniVersion, answer: unknown): Result {
  const what = `${who}: its answer`
  if (answer === undefined) throw new CniError(CODE.decode, `${what} is empty`)
  try {
    const own = CNI_VERSIONS.find(known => known === versionIn(answer)) ?? version
    const result = parseResult(own, answer, [])
    check(dnsSchema, result.dns, ['dns'])
    return result
  } catch (error) {
    const cause = (error as Error).message.replace(/^network configuration: /, '')
    throw new CniError(CODE.decode, `${what} is not a result: ${cause}`)
  }
}
