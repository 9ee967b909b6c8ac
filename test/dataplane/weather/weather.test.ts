import { beforeEach, expect, test } from 'vitest'
import type { Topic } from '../../../dataplane/netlink/watch.ts'
import { PASS_MS, Weather, type Why } from '../../../dataplane/weather/weather.ts'
import { TestClock } from './clock.ts'

let clock: TestClock
let log: string[]
let closed: number
let weather: Weather
let happen: (...topics: Topic[]) => void
beforeEach(() => {
  clock = new TestClock()
  log = []
  closed = 0
  weather = new Weather({
    log: (level, message) => log.push(`${level} ${message}`),
    clock,
    listen: look => {
      happen = (...topics) => look(new Set(topics))
      return { close: async () => void closed++ }
    },
  })
})

/** Lets everything run that waits for nothing but its turn. */
const settled = () => new Promise(resolve => setImmediate(resolve))

test('a look is called at the start, for its topics alone, and every two minutes', async () => {
  const seen: Why[] = []
  weather.add('devices', ['link', 'address'], why => void seen.push(why))
  await weather.start()
  expect(seen).toEqual(['pass'])
  happen('route', 'neighbour')
  happen('link', 'route')
  await settled()
  expect(seen.slice(1)).toEqual([new Set(['link'])])
  clock.advance(PASS_MS - 1)
  await settled()
  expect(seen).toHaveLength(2)
  clock.advance(1)
  await settled()
  expect(seen.slice(2)).toEqual(['pass'])
  // And again.
  clock.advance(PASS_MS)
  await settled()
  expect(seen).toHaveLength(4)
  await weather.close()
})

test('what happens while a look runs is looked at behind it, once', async () => {
  const runs: (() => void)[] = []
  const seen: Why[] = []
  weather.add('devices', ['link', 'route'], why => {
    seen.push(why)
    return new Promise<void>(resolve => runs.push(resolve))
  })
  const started = weather.start()
  happen('link')
  happen('route')
  happen('link')
  expect(seen).toEqual(['pass'])
  runs[0]!()
  await settled()
  expect(seen).toEqual(['pass', new Set(['link', 'route'])])
  runs[1]!()
  await started
  await weather.close()
})

test('a look that took long rests; a pass does not wait for that', async () => {
  const seen: Why[] = []
  weather.add('slow', ['link'], why => {
    seen.push(why)
    clock.advance(40)
  })
  await weather.start()
  happen('link')
  await settled()
  expect(seen).toHaveLength(1)
  expect(clock.waiting[0]).toBe(200)
  clock.advance(200)
  await settled()
  expect(seen).toHaveLength(2)
  happen('link')
  await weather.pass()
  expect(seen).toHaveLength(3)
  await weather.close()
})

test('a look that throws is a trouble until it runs through; the others are called', async () => {
  let broken = true
  let others = 0
  weather.add('nft', ['nft'], async () => {
    if (broken) throw new Error('nft is missing')
  })
  weather.add('links', ['link'], () => void others++)
  await weather.start()
  expect(others).toBe(1)
  expect(weather.conditions.troubles()).toMatchObject([
    { what: 'could not look after nft: nft is missing', blocking: false },
  ])
  broken = false
  happen('nft')
  await settled()
  expect(weather.conditions.troubles()).toEqual([])
  await weather.close()
})

test('close waits for what runs and calls nothing more', async () => {
  let end = () => {}
  let calls = 0
  weather.add('slow', ['link'], () => {
    calls++
    return new Promise<void>(resolve => {
      end = resolve
    })
  })
  void weather.start()
  happen('link')
  let done = false
  const closing = weather.close().then(() => {
    done = true
  })
  await settled()
  expect(done).toBe(false)
  end()
  await closing
  happen('link')
  await settled()
  expect(calls).toBe(1)
  expect(closed).toBe(1)
  expect(clock.waiting).toEqual([])
})
