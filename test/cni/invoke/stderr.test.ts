/** What plugins of others say on stderr: each request hears its own, in its answer, and no terminal obeys it. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { pluginSays, withStderr } from '../../../cni/invoke/stderr.ts'
import { giveBackOrphans } from '../../../cni/ipam/delegations.ts'
import type { Node } from '../../../cni/pods/node.ts'
import { Turns } from '../../../cni/pods/turns.ts'
import { type CniReply, MAX_STDERR_BYTES } from '../../../cni/spec/request.ts'
import type { State } from '../../../cni/state/state.ts'
import { answer } from '../../../cni/verbs/index.ts'
import { Namespaces } from '../../harness/netns.ts'
import { fakeNode } from '../fake-node.ts'
import { FakePlane } from '../fake-plane.ts'

const SELF = { name: 'node-a', vtep: '192.0.2.11', podCidrs: ['10.0.0.0/24'] }
/** Says who asks it for what, and gives an address that is made of that; `no` gets none. */
const SCRIPT = `#!/bin/sh
cat > /dev/null
printf '%s of %s\\033[2J\\n' $CNI_COMMAND $CNI_CONTAINERID >&2
[ $CNI_COMMAND = ADD ] || exit 0
[ $CNI_CONTAINERID != no ] || { echo '{"code":11,"msg":"full"}'; exit 1; }
echo '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.'\${CNI_CONTAINERID#c}'/24"}]}'
`

const namespaces = new Namespaces('stderr')
let netns = ''
let folder = ''
let state: State
let node: Node
let records: Record<string, unknown>[] = []
beforeAll(async () => {
  netns = await namespaces.add('pod')
})
afterAll(() => namespaces.removeAll())
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-stderr-'))
  mkdirSync(join(folder, 'plugins'))
  writeFileSync(join(folder, 'plugins', 'loud'), SCRIPT, { mode: 0o755 })
  const made = fakeNode(folder, new FakePlane(SELF, {}), new Turns(1))
  ;({ node, state, records } = made)
})
afterEach(() => {
  state.close()
  rmSync(folder, { recursive: true, force: true })
})

function call(verb: string, id = '', more: object = {}): Promise<CniReply> {
  const plain = id === ''
  const env = {
    ...{ CNI_COMMAND: verb, CNI_CONTAINERID: id, CNI_NETNS: plain ? '' : netns },
    ...{ CNI_IFNAME: plain ? '' : 'eth0', CNI_ARGS: '', CNI_PATH: join(folder, 'plugins') },
  }
  const ipam = { type: 'loud' }
  const config = JSON.stringify({
    cniVersion: '1.1.0',
    name: 'hawser',
    type: 'hawser',
    ipam,
    ...more,
  })
  return answer(node, { env, config })
}

test('is in the answer of each verb, in errors with what undoes them', async () => {
  const added = await call('ADD', 'c7')
  expect(added).toMatchObject({ exit: 0, stderr: 'ADD of c7?[2J\n' })
  expect(await call('STATUS')).toMatchObject({ exit: 0, stderr: 'STATUS of ?[2J\n' })
  expect(await call('DEL', 'c7')).toMatchObject({ exit: 0, stderr: 'DEL of c7?[2J\n' })
  const refused = await call('ADD', 'no')
  expect(refused).toMatchObject({ exit: 1, stderr: 'ADD of no?[2J\nDEL of no?[2J\n' })
  expect(JSON.parse(refused.stdout)).toMatchObject({ code: 11 })
  const lines = records.filter(({ msg }) => msg === 'an IPAM plugin says').map(({ line }) => line)
  expect(lines).toContain('ADD of no?[2J')
})

test('of plugins for further interfaces is there too, in their order', async () => {
  const networks = [{ name: 'blue', ifname: 'net1', plugins: [{ type: 'loud' }] }]
  const added = await call('ADD', 'c7', { networks })
  expect(added).toMatchObject({ exit: 0, stderr: 'ADD of c7?[2J\nADD of c7?[2J\n' })
  const deleted = await call('DEL', 'c7')
  expect(deleted).toMatchObject({ exit: 0, stderr: 'DEL of c7?[2J\nDEL of c7?[2J\n' })
})

test('is not there when nobody said anything', async () => {
  expect(await call('DEL', 'unknown')).toMatchObject({ stderr: 'DEL of unknown?[2J\n' })
  expect(Object.keys(await call('VERSION'))).toEqual(['exit', 'stdout'])
})

test('is heard by the request that it is said in, whoever ends the turn before', async () => {
  const ids = ['c2', 'c3', 'c4', 'c5']
  const replies = await Promise.all(ids.map(id => call('ADD', id)))
  expect(replies.map(({ stderr }) => stderr)).toEqual(ids.map(id => `ADD of ${id}?[2J\n`))
})

test('of what is done unasked is only logged', async () => {
  await call('ADD', 'c7')
  state.release({ network: 'hawser', containerId: 'c7', ifname: 'eth0' })
  records.length = 0
  await giveBackOrphans(node)
  expect(records).toMatchObject([{ line: 'DEL of c7?[2J' }, {}])
})

test('is bounded, and says so', async () => {
  const line = 'x'.repeat(999)
  const reply = await withStderr(async () => {
    for (let k = 0; k < 100; k++) pluginSays(line)
    return { exit: 0, stdout: '' }
  })
  const stderr = reply.stderr ?? ''
  expect(stderr.length).toBeLessThanOrEqual(MAX_STDERR_BYTES)
  expect(stderr.endsWith(`${line}\nhawser: the rest is left out\n`)).toBe(true)
  expect(stderr.split('\n')).toHaveLength(16 + 2)
})
