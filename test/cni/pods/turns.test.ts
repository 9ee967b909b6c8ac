import { expect, test } from 'vitest'
import { MAX_PARALLEL, MAX_UNASKED, Turns } from '../../../cni/pods/turns.ts'

/** A piece of work that tells when it begins and ends when it is told. */
function piece(log: string[], name: string) {
  const { promise, resolve } = Promise.withResolvers<void>()
  const work = async (late: AbortSignal): Promise<string> => {
    log.push(`${name} begins`)
    await promise
    log.push(late.aborted ? `${name} ends late` : `${name} ends`)
    return name
  }
  return { work, end: resolve }
}

test('one key has one turn after the other, in order; other keys go beside it', async () => {
  const turns = new Turns()
  const log: string[] = []
  const [a, b, c] = ['a', 'b', 'c'].map(name => piece(log, name))
  const done = [turns.run('x', a!.work), turns.run('x', b!.work), turns.run('y', c!.work)]
  expect(log).toEqual(['a begins', 'c begins'])
  a!.end()
  expect(await done[0]).toBe('a')
  b!.end()
  c!.end()
  expect(await Promise.all(done)).toEqual(['a', 'b', 'c'])
  expect(log.indexOf('b begins')).toBeGreaterThan(log.indexOf('a ends'))
})

test('no more than the bound work at once, and all get their turn', async () => {
  const turns = new Turns(3)
  let now = 0
  let most = 0
  const done = Array.from({ length: 100 }, (_, k) =>
    turns.run(`key ${k % 40}`, async () => {
      now += 1
      most = Math.max(most, now)
      await new Promise(resolve => setImmediate(resolve))
      now -= 1
      return k
    }),
  )
  expect(await Promise.all(done)).toEqual(Array.from({ length: 100 }, (_, k) => k))
  expect(most).toBe(3)
})

test('who waits too long is told to try again, and its work never begins', async () => {
  const turns = new Turns(1, 20)
  const log: string[] = []
  const [a, b] = ['a', 'b'].map(name => piece(log, name))
  const first = turns.run('x', a!.work)
  const second = turns.run('y', b!.work)
  await expect(first).rejects.toMatchObject({ code: 11, message: 'x: not done within 20 ms' })
  await expect(second).rejects.toMatchObject({
    code: 11,
    message: 'y: no turn for it within 20 ms',
  })
  expect(log).toEqual(['a begins'])
  a!.end()
  await turns.idle()
  expect(log).toEqual(['a begins', 'a ends late'])
})

test('work that is late keeps its key until it has ended', async () => {
  const turns = new Turns(2, 20)
  const log: string[] = []
  const [a, b] = ['a', 'b'].map(name => piece(log, name))
  await expect(turns.run('x', a!.work)).rejects.toMatchObject({ code: 11 })
  b!.end()
  const next = turns.run('x', b!.work)
  expect(log).toEqual(['a begins'])
  a!.end()
  expect(await next).toBe('b')
  expect(log).toEqual(['a begins', 'a ends late', 'b begins', 'b ends'])
})

test('a failure is handed on and frees the turn', async () => {
  const turns = new Turns(1)
  await expect(turns.run('x', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  expect(await turns.run('x', () => Promise.resolve(1))).toBe(1)
})

test('what nobody asks for leaves places free, waits as long as it takes, and is told when it is late', async () => {
  const turns = new Turns(MAX_PARALLEL, 20)
  const log: string[] = []
  const pieces = Array.from({ length: 5 }, (_, k) => piece(log, `u${k}`))
  const unasked = pieces.map((each, k) => turns.unasked(`u${k}`, each.work))
  for (const each of unasked) each.catch(() => {})
  expect(log).toHaveLength(MAX_UNASKED)
  expect(await turns.run('asked', async () => 'served')).toBe('served')
  // The first two are late; the third has waited longer than that, and begins all the same.
  for (const late of unasked.slice(0, 2)) await expect(late).rejects.toMatchObject({ code: 11 })
  expect(log).toHaveLength(MAX_UNASKED)
  pieces[0]!.end()
  await expect.poll(() => log).toContain('u2 begins')
  expect(log).toContain('u0 ends late')
  for (const each of pieces) each.end()
  await Promise.allSettled(unasked)
  expect(log.filter(each => each.endsWith('begins'))).toHaveLength(5)
})
