/**
 * Labels that a pod brings along in the annotation `hawser.dev/labels`, as a JSON object or as `app=web,tier=front`: a
 * runtime hands over annotations, never labels. Whoever may annotate a pod may label it in Kubernetes, too, and
 * need not be the node's friend: they are bounded, and refused when they are wrong.
 */
import { clean } from '../base/document.ts'
import { type Labels, labelsSchema } from '../model/labels.ts'
import { annotationText, separated, wrongRequest } from '../spec/annotations.ts'
import { check } from '../spec/check.ts'

export const LABELS_ANNOTATION = 'hawser.dev/labels'
/** Characters of all, and of a key and a value (labels.ts says what these may be). */
export const MAX_LABELS_TEXT = 8192
const MAX_PART = 317

const WHERE = `annotation ${LABELS_ANNOTATION}`

/** What a network configuration of whatever shape brings along; undefined for none. Throws CniError (code 7). */
export function requestedLabels(document: unknown): Labels | undefined {
  const text = annotationText(document, LABELS_ANNOTATION, MAX_LABELS_TEXT)
  if (text === undefined) return undefined
  const labels = text.trimStart().startsWith('{') ? objectIn(text) : listIn(text)
  for (const part of Object.entries(labels).flat()) {
    // A schema passes over __proto__.
    if (typeof part === 'string' && part.length <= MAX_PART && part !== '__proto__') continue
    throw wrongRequest(WHERE, `${clean(String(part))}: not a label`)
  }
  const found = check(labelsSchema, labels, [WHERE])
  return Object.keys(found).length === 0 ? undefined : found
}

function objectIn(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    throw wrongRequest(WHERE, `${clean(text)}: neither a JSON object nor KEY=VALUE,KEY=VALUE`)
  }
}

function listIn(text: string): Record<string, unknown> {
  const labels = new Map<string, string>()
  for (const each of separated(WHERE, text, MAX_LABELS_TEXT)) {
    const at = each.indexOf('=')
    if (at <= 0) throw wrongRequest(WHERE, `${clean(each)}: not KEY=VALUE`)
    const key = each.slice(0, at)
    if (labels.has(key)) throw wrongRequest(WHERE, `${clean(key)}: it is there twice`)
    labels.set(key, each.slice(at + 1))
  }
  return Object.fromEntries(labels)
}
