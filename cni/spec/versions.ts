/** The versions and verbs of the CNI specification, and which version has which verb. */

/** The protocol versions of CNI that we speak, oldest first. */
export const CNI_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

export const LATEST_CNI_VERSION = '1.1.0'

export const VERBS = ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'VERSION'] as const

export type Verb = (typeof VERBS)[number]

export type CniVersion = (typeof CNI_VERSIONS)[number]

/** The first version that has the verb. */
export const SINCE: Readonly<Record<Verb, CniVersion>> = {
  ADD: '0.1.0',
  DEL: '0.1.0',
  VERSION: '0.1.0',
  CHECK: '0.4.0',
  STATUS: '1.1.0',
  GC: '1.1.0',
}

/** Whether CNI has the verb in that version. */
export function hasVerb(version: CniVersion, verb: Verb): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(SINCE[verb])
}
