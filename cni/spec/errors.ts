/** Errors as the CNI specification (1.1.0, "Error" and "STATUS") has them: a code, a sentence, details. */
import type { CniReply } from './request.ts'
import { CNI_VERSIONS, LATEST_CNI_VERSION } from './versions.ts'

/** The specification's codes, and from 100 on ours. native/plugin/answer.h has the same numbers. */
export const CODE = {
  /** The configuration's `cniVersion` is none of ours, or has no such verb. */
  version: 1,
  field: 2,
  /** Tells the runtime that no DEL is needed: only right when that is certain. */
  unknownContainer: 3,
  environment: 4,
  io: 5,
  decode: 6,
  config: 7,
  /** The namespace given is the daemon's own. */
  ownNetns: 8,
  tryAgain: 11,
  /** STATUS: no ADD can be served. */
  notAvailable: 50,
  /** STATUS: no ADD can be served, and running pods are hurt. */
  limited: 51,
  /** A bug of ours. */
  internal: 100,
  /** The socket is served by another user than root. */
  peer: 101,
  /** What the daemon answered is not understood. */
  protocol: 102,
  /** ADD: the attachment or its interface is there already; nothing was touched. */
  exists: 103,
  /** CHECK: the attachment is not as it was answered. */
  differs: 104,
} as const

export type Code = (typeof CODE)[keyof typeof CODE]

/** What a verb throws: `message` names the object and the cause, `details` what helps. */
export class CniError extends Error {
  readonly code: number
  readonly details: string

  constructor(code: number, message: string, details = '', options?: ErrorOptions) {
    super(message, options)
    this.name = 'CniError'
    this.code = code
    this.details = details
  }
}

/** The reply that carries `error`. What is no CniError is a bug of ours: code 100. */
export function errorReply(cniVersion: string | undefined, error: unknown): CniReply {
  const known = CNI_VERSIONS.find(version => version === cniVersion) ?? LATEST_CNI_VERSION
  const { code, details } = error instanceof CniError ? error : { code: CODE.internal, details: '' }
  const msg = error instanceof Error ? error.message : String(error)
  return { exit: 1, stdout: JSON.stringify({ cniVersion: known, code, msg, details }) }
}
