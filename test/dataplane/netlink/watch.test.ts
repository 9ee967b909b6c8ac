// The listener: which topics an event has, that a storm is few calls, and that a loss is all topics.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { TOPICS, type Topic, Watch } from '../../../dataplane/netlink/watch.ts'
import { noNft } from '../../harness/needs.ts'
import { impossible } from '../../harness/skip.ts'
import { addNamespace, type Namespace, removeNamespaces } from '../../native/namespace.ts'

let here: Namespace
let watch: Watch
let calls: Topic[][]
let waiting: (() => void) | undefined

beforeEach(() => {
  here = addNamespace()
  calls = []
  watch = new Watch(here.path, topics => {
    calls.push([...topics])
    waiting?.()
  })
})
afterEach(async () => {
  await watch.close()
  removeNamespaces()
})

/** Resolves when the calls since the last `told` have had this topic. */
async function told(topic: Topic): Promise<void> {
  while (!calls.flat().includes(topic)) {
    await new Promise<void>(resolve => {
      waiting = resolve
    })
  }
  calls = []
}

test('a change of a device, an address, a route, a rule, a neighbour is told by its topic', async () => {
  here.ip('link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb')
  await told('link')
  here.ip('link', 'set', 'vb', 'up')
  here.ip('link', 'set', 'va', 'up')
  here.ip('addr', 'add', '10.1.0.1/24', 'dev', 'va')
  await told('address')
  here.ip('route', 'add', '10.2.0.0/16', 'via', '10.1.0.2')
  await told('route')
  here.ip('rule', 'add', 'from', '10.1.0.9', 'table', '77')
  await told('rule')
  here.ip('-6', 'rule', 'add', 'from', 'fd01::9', 'table', '77')
  await told('rule')
  here.ip('neigh', 'add', '10.1.0.3', 'lladdr', '02:00:00:00:00:03', 'dev', 'va')
  await told('neighbour')
  here.ip('link', 'del', 'va')
  await told('link')
})

test('nftables has its own topic, where the kernel has netfilter', async context => {
  const cause = noNft('what its changes tell')
  if (cause !== undefined) return context.skip(cause)
  if (!watch.hearsNft) return context.skip(impossible('this kernel has no netfilter netlink'))
  here.run('nft', 'add', 'table', 'inet', 'watched')
  await told('nft')
  here.run('nft', 'flush', 'ruleset')
  await told('nft')
})

test('a hundred events that come together are few calls', async () => {
  here.ip('link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb')
  await told('link')
  here.batch(Array.from({ length: 100 }, (_, i) => `addr add 10.1.${i}.1/24 dev va`))
  await told('address')
  // Each takes 30 ms; `ip -batch` is through before the second.
  expect(calls.length).toBeLessThan(5)
})

test('when the kernel has dropped events, all topics are told', async () => {
  here.ip('link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb')
  await told('link')
  // More than the socket's buffer takes, made while this thread reads nothing.
  here.batch(Array.from({ length: 4000 }, (_, i) => `addr add 10.${i >> 8}.${i & 255}.1/24 dev va`))
  await told('nft')
}, 60_000)

test('close ends the calls, also while nothing happens', async () => {
  await watch.close()
  here.ip('link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb')
  await watch.close()
  expect(calls).toEqual([])
  expect(TOPICS).toContain('nft')
})
