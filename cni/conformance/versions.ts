/** Versions of the specification, oldest first. The runner's own list: what a plugin lists is judged by it. */
export const SPEC_VERSIONS = [
  '0.1.0',
  '0.2.0',
  '0.3.0',
  '0.3.1',
  '0.4.0',
  '1.0.0',
  '1.1.0',
] as const
export type SpecVersion = (typeof SPEC_VERSIONS)[number]

/** Whether `version` is `since` or newer. */
export function atLeast(version: SpecVersion, since: SpecVersion): boolean {
  return SPEC_VERSIONS.indexOf(version) >= SPEC_VERSIONS.indexOf(since)
}

/** The versions of the specification among `texts`, oldest first. */
export function specVersions(texts: readonly string[]): SpecVersion[] {
  return SPEC_VERSIONS.filter(version => texts.includes(version))
}
