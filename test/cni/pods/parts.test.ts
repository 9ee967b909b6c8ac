/** What stands before an attachment's way is opened. */
import { expect, test } from 'vitest'
import { open, type PodsContext } from '../../../cni/pods/parts.ts'
import type { Attachment } from '../../../cni/state/state.ts'

test('an attachment whose policy does not come in time is not opened', async () => {
  const late = new AbortController()
  let attached = 0
  const context = {
    policies: { admit: () => new Promise(() => {}) },
    plane: { attach: () => Promise.resolve(attached++) },
  } as unknown as PodsContext
  const opened = open(context, {} as Attachment, undefined, late.signal)
  late.abort(new Error('not done within 45000 ms'))
  await expect(opened).rejects.toThrow('not done within 45000 ms')
  await expect(open(context, {} as Attachment, undefined, late.signal)).rejects.toThrow('not done')
  expect(attached).toBe(0)
})
