import { beforeEach, expect, test } from 'vitest'
import { Conditions } from '../../../dataplane/weather/conditions.ts'
import { TestClock } from './clock.ts'

let clock: TestClock
let log: string[]
let conditions: Conditions
beforeEach(() => {
  clock = new TestClock()
  log = []
  conditions = new Conditions((level, message) => log.push(`${level} ${message}`), clock)
})

test('a trouble keeps the time of its first day, and is told once', () => {
  conditions.raise('underlay', 'underlay eth0 is gone', { blocking: true })
  clock.advance(5000)
  conditions.raise('underlay', 'underlay eth0 is gone', { blocking: true })
  expect(conditions.troubles()).toEqual([
    { what: 'underlay eth0 is gone', since: '1970-01-01T00:00:00.000Z', blocking: true },
  ])
  expect(conditions.blocked).toBe(true)
  expect(log).toEqual(['error underlay eth0 is gone'])
})

test('another sentence of the same trouble is news, but no new trouble', () => {
  conditions.raise('underlay', 'underlay eth0 is gone', { blocking: true })
  clock.advance(1000)
  conditions.raise('underlay', 'underlay eth0 is down', { blocking: true })
  expect(conditions.troubles()).toMatchObject([
    { what: 'underlay eth0 is down', since: '1970-01-01T00:00:00.000Z' },
  ])
  expect(log).toHaveLength(2)
})

test('one that does not block leaves the node ready, and stands behind those that do', () => {
  conditions.raise('b', 'small', { blocking: false })
  expect(conditions.blocked).toBe(false)
  clock.advance(10)
  conditions.raise('a', 'large', { blocking: true })
  expect(conditions.troubles().map(({ what }) => what)).toEqual(['large', 'small'])
  expect(log).toEqual(['warn small', 'error large'])
})

test('what is over is told once and forgotten; a later one has a time of its own', () => {
  conditions.set('underlay', 'underlay eth0 is gone', { blocking: true })
  conditions.set('underlay', undefined, { blocking: true })
  conditions.clear('underlay')
  expect(log).toEqual(['error underlay eth0 is gone', 'info over: underlay eth0 is gone'])
  expect(conditions.blocked).toBe(false)
  clock.advance(60_000)
  conditions.raise('underlay', 'underlay eth0 is gone', { blocking: true })
  expect(conditions.troubles()[0]!.since).toBe('1970-01-01T00:01:00.000Z')
})

test('of a family of troubles those that are not named are cleared', () => {
  for (const key of ['way a', 'way b', 'other'])
    conditions.raise(key, `${key} is bad`, { blocking: false })
  conditions.clearOthers('way ', new Set(['way b']))
  expect(conditions.has('way a')).toBe(false)
  expect(conditions.troubles().map(({ what }) => what)).toEqual(['way b is bad', 'other is bad'])
})

test('what is mended is a line and a count', () => {
  conditions.mended('nft', 'masquerading is back')
  conditions.mended('nft', 'masquerading is back')
  conditions.mended('underlay', 'eth0 is served again')
  expect(conditions.mendings()).toEqual([
    { what: 'nft', count: 2 },
    { what: 'underlay', count: 1 },
  ])
  expect(log).toEqual([
    'info masquerading is back',
    'info masquerading is back',
    'info eth0 is served again',
  ])
})
