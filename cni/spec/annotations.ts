/**
 * What a pod's annotations ask of us. A runtime sends all of them as the capability
 * `io.kubernetes.cri.pod-annotations` (containerd, CRI-O), so they lie in `runtimeConfig`; beside it
 * is where a person writes them who tries something by hand. Whoever writes annotations need not be the
 * node's friend: they are bounded, and refused when they are wrong.
 */
import { clean } from '../base/document.ts'
import { CniError, CODE } from './errors.ts'

export const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations'
/** Characters of an annotation or an argument: two addresses, or sixteen names, and room to spare. */
export const MAX_REQUEST = 1024

/**
 * The list in annotation `name` of a network configuration of whatever shape: a JSON list of text, or
 * separated by commas; empty without it. `what`: what it is a list of. Throws CniError (code 7).
 */
export function annotationList(document: unknown, name: string, what: string): string[] {
  const text = annotationText(document, name, MAX_REQUEST)
  return text === undefined ? [] : listed(`annotation ${name}`, text, what)
}

/** Annotation `name`, of at most `most` characters. Throws CniError (code 7). */
export function annotationText(document: unknown, name: string, most: number): string | undefined {
  const annotation = annotationOf(document, name)
  if (annotation === undefined) return undefined
  const where = `annotation ${name}`
  if (typeof annotation !== 'string') throw wrongRequest(where, 'not text')
  if (annotation.length > most) throw wrongRequest(where, `longer than ${most} characters`)
  return annotation
}

function annotationOf(document: unknown, name: string): unknown {
  const config = document as Record<string, unknown> | null
  const runtime = config?.['runtimeConfig'] as Record<string, unknown> | null | undefined
  for (const annotations of [runtime?.[ANNOTATIONS], config?.[ANNOTATIONS]]) {
    if (typeof annotations !== 'object' || annotations === null) continue
    const found = Object.entries(annotations).find(([key]) => key === name)?.[1]
    if (found != null) return found
  }
  return undefined
}

function listed(where: string, text: string, what: string): string[] {
  if (!text.trimStart().startsWith('[')) return separated(where, text)
  let list: unknown
  try {
    list = JSON.parse(text)
  } catch {
    throw wrongRequest(where, `${clean(text)}: neither a JSON list nor separated by commas`)
  }
  if (Array.isArray(list) && list.every(each => typeof each === 'string')) return list
  throw wrongRequest(where, `${clean(text)}: not a list of ${what}`)
}

/** What stands between commas, without what is empty. Throws CniError (code 7) when it is too long. */
export function separated(where: string, text: string, most = MAX_REQUEST): string[] {
  if (text.length > most) throw wrongRequest(where, `longer than ${most} characters`)
  return text
    .split(',')
    .map(each => each.trim())
    .filter(each => each !== '')
}

export function wrongRequest(where: string, cause: string): CniError {
  return new CniError(CODE.config, `${where}: ${cause}`)
}
