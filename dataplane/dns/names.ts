/**
 * Domain names, as text and as bytes. The bytes are those of RFC 1035 section 3.1 in one canonical form: every label behind
 * its length, ASCII letters in lower case (RFC 4343), the root's empty label left out. A dot inside of a label is so never
 * one between labels. In text such a byte is escaped (RFC 1035 section 5.1): `\.`, `\032`.
 *
 * A *pattern* is a name, or `*.` and a name: one or more whole labels in front of it (network-policy-api, DomainName).
 */

/** Most bytes of a name, the root's included (RFC 1035 section 2.3.4); so a canonical one has fewer. */
export const MAX_NAME_BYTES = 255
const MAX_LABEL_BYTES = 63

const WILDCARD = '*.'

/** `Example.ORG.` as everybody writes it. */
export function domainText(text: string): string {
  const folded = text.replace(/[A-Z]+/g, letters => letters.toLowerCase())
  return folded.endsWith('.') ? folded.slice(0, -1) : folded
}

/** A name or pattern as bytes; those of a pattern are the name's behind `*.`. Throws RangeError. */
export function domainBytes(pattern: string): { bytes: Uint8Array; wildcard: boolean } {
  const text = domainText(pattern)
  const wildcard = text.startsWith(WILDCARD)
  const name = wildcard ? text.slice(WILDCARD.length) : text
  const bytes: number[] = []
  for (const label of name.split('.')) {
    const plain = [...label].every(each => each > ' ' && each <= '~' && each !== '\\')
    if (label === '' || label.length > MAX_LABEL_BYTES || !plain) {
      throw new RangeError(`${pattern}: not a domain name`)
    }
    bytes.push(label.length, ...Buffer.from(label, 'latin1'))
  }
  if (bytes.length >= MAX_NAME_BYTES) {
    throw new RangeError(`${pattern}: a domain name has at most ${MAX_NAME_BYTES - 2} characters`)
  }
  return { bytes: Uint8Array.from(bytes), wildcard }
}

/** Canonical bytes as text. */
export function nameText(bytes: Uint8Array): string {
  const labels: string[] = []
  for (let at = 0; at < bytes.length; at += bytes[at]! + 1) {
    const label = bytes.subarray(at + 1, at + 1 + bytes[at]!)
    labels.push(Array.from(label, escaped).join(''))
  }
  return labels.join('.')
}

function escaped(byte: number): string {
  const text = String.fromCharCode(byte)
  if (byte <= 0x20 || byte >= 0x7f) return `\\${String(byte).padStart(3, '0')}`
  return '.\\"();@$'.includes(text) ? `\\${text}` : text
}

/** Whether a name (text) is one of those that a pattern means. Slow and plain; patterns.ts says the same of bytes. */
export function domainMatches(pattern: string, name: string): boolean {
  const wanted = labelsOf(pattern)
  const labels = labelsOf(name)
  if (wanted[0] !== '*') return wanted.join('.') === labels.join('.')
  const behind = wanted.slice(1)
  return (
    labels.length > behind.length && labels.slice(-behind.length).join('.') === behind.join('.')
  )
}

/** Labels, escapes as they stand. */
function labelsOf(text: string): string[] {
  return domainText(text).match(/(?:\\[0-9]{3}|\\.|[^.\\])+/g) ?? []
}
