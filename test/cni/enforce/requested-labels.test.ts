/** The annotation `hawser.dev/labels`: what is taken, and what whoever writes annotations can not do with it. */
import { expect, test } from 'vitest'
import { MAX_LABELS_TEXT, requestedLabels } from '../../../cni/enforce/requested-labels.ts'
import { CODE } from '../../../cni/spec/errors.ts'

const annotated = (value: unknown) => ({
  runtimeConfig: { 'io.kubernetes.cri.pod-annotations': { 'hawser.dev/labels': value } },
})
const labels = (value: unknown) => requestedLabels(annotated(value))

test('a JSON object and a list say the same', () => {
  const wanted = { app: 'web', 'app.kubernetes.io/part-of': 'shop', empty: '' }
  expect(labels(JSON.stringify(wanted))).toEqual(wanted)
  expect(labels(' app=web, app.kubernetes.io/part-of=shop ,empty=')).toEqual(wanted)
})

test('nothing is none', () => {
  for (const document of [
    {},
    null,
    annotated(null),
    annotated(''),
    annotated('{}'),
    annotated(' , '),
  ]) {
    expect(requestedLabels(document)).toBeUndefined()
  }
})

test('names that JavaScript has for its own are labels like others, or none', () => {
  expect(labels('constructor=x,toString=y')).toEqual({ constructor: 'x', toString: 'y' })
  expect(() => labels('{"__proto__":"x"}')).toThrow('not a label')
  expect(() => labels('__proto__=x')).toThrow('not a label')
})

test.each([
  ['no text', 7, 'not text'],
  ['JSON that is none', '{"app":', 'neither a JSON object nor'],
  ['a list without a value', 'app', 'app: not KEY=VALUE'],
  ['without a key', '=web', '=web: not KEY=VALUE'],
  ['a key twice', 'app=a,app=b', 'app: it is there twice'],
  ['a value that is a number', '{"app":1}', '1: not a label'],
  ['a value that is an object', '{"app":{"a":"b"}}', 'not a label'],
  ['a value that no label has', 'app=d b', 'not a label value'],
  ['a key that no label has', '-app=x', '-app: Invalid key'],
  ['a long key', `${'a'.repeat(318)}=x`, 'not a label'],
  ['a long value', `app=${'a'.repeat(64)}`, 'not a label value'],
  ['more than is read', 'a'.repeat(MAX_LABELS_TEXT + 1), 'longer than 8192 characters'],
  ['more than there may be', labelled(1500), 'more than 1024 labels'],
])('%s is refused', (_what, value, cause) => {
  let error: unknown
  try {
    labels(value)
  } catch (caught) {
    error = caught
  }
  expect(error).toMatchObject({ code: CODE.config })
  expect(String(error)).toContain('hawser.dev/labels')
  expect(String(error)).toContain(cause)
  expect(String(error).length).toBeLessThan(1000)
})

function labelled(count: number): string {
  return Array.from({ length: count }, (_, n) => `${n.toString(36)}=`).join()
}
