/** Variables and names that are missing, bad or good (contract 2, 3, 7). */

import { refused, told } from '../answer.ts'
import type { Case } from '../case.ts'
import type { Context, Pod } from '../context.ts'
import { Failed } from '../failed.ts'

const REQUIRED = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
} as const

const BAD_IDS = ['-a', '.a', '_a', '../a', 'a/b', 'a b', 'ä', 'a\nb', 'a;b', 'a"b']
const GOOD_IDS = ['a', '7', 'A_b.c-9', 'e'.repeat(64), 'pod.']
const BAD_IFNAMES = ['.', '..', 'a/b', 'a:b', 'a b', 'a\tb', 'sixteen-letters-', '/', '../eth0']
const GOOD_IFNAMES = ['net1', 'a', 'fifteen-letters', 'eth0.100', 'x_y-z@1']
const BAD_NETWORKS = ['', '-a', '.a', 'a b', 'a/b', '../a', 'ä', 'a\nb']
const GOOD_NETWORKS = ['a', 'k8s-pod-network', 'A_b.c-9', '10']
/** Neither is a network namespace. */
const BAD_NETNS = ['/run/netns/hwc-no-such-namespace', '/etc/hostname', '/proc/self/ns/mnt', '/']

/** ADD with `value` in the place of `key`; the first that is not refused with one of `codes` is the failure. */
function refusesEach(
  key: string,
  values: readonly string[],
  codes: readonly number[],
): (context: Context) => Promise<string> {
  return async context => {
    const pod = await context.pod()
    let last = ''
    for (const value of values) {
      const answer = await context.call('ADD', pod, { env: { [key]: value } })
      refused(answer, codes, `${key}=${JSON.stringify(value)}: `)
      last = told(answer)
    }
    return `all of ${values.length} are refused; the last: ${last}`
  }
}

/** ADD and DEL of pods that `changed` makes of a fresh one. */
function takesEach(
  values: readonly string[],
  changed: (pod: Pod, value: string) => Pod,
): (context: Context) => Promise<string> {
  return async context => {
    for (const value of values) {
      const pod = changed(await context.pod(), value)
      try {
        const attached = await context.add(pod)
        await context.interfaceOf(pod)
        await context.del(attached)
      } catch (error) {
        if (error instanceof Failed) throw new Failed(`${JSON.stringify(value)}: ${error.message}`)
        throw error
      }
    }
    return `all of ${values.length} are taken: ${values.join(', ')}`
  }
}

export const environment: readonly Case[] = [
  ...Object.entries(REQUIRED).flatMap(([verb, names]) =>
    names.map(
      (name): Case => ({
        id: `02-${verb}-without-${name.slice('CNI_'.length)}`.toLowerCase(),
        name: `${verb} with ${name} absent or empty is refused with code 4`,
        runs: 'each',
        ...(verb === 'CHECK' ? { since: '0.4.0' } : {}),
        run: async context => {
          const pod = await context.pod()
          const config = verb === 'CHECK' ? { prevResult: {} } : {}
          for (const value of [undefined, '']) {
            const answer = await context.call(verb, pod, { env: { [name]: value }, config })
            refused(answer, [4], `${name} ${value === undefined ? 'absent' : 'empty'}: `)
          }
          return 'code 4 for an absent and for an empty one'
        },
      }),
    ),
  ),
  {
    id: '02-add-without-any',
    name: 'ADD with nothing but CNI_COMMAND is refused with code 4',
    runs: 'each',
    run: async context => {
      const answer = await context.call('ADD', undefined, {
        bare: true,
        env: { CNI_COMMAND: 'ADD' },
      })
      refused(answer, [4])
      return told(answer)
    },
  },
  {
    id: '02-netns-bad',
    name: 'ADD in what is no network namespace is refused',
    runs: 'each',
    run: refusesEach('CNI_NETNS', BAD_NETNS, []),
  },
  {
    id: '03-containerid-bad',
    name: 'container ids that break the pattern are refused with code 4',
    runs: 'each',
    run: refusesEach('CNI_CONTAINERID', BAD_IDS, [4]),
  },
  {
    id: '03-containerid-good',
    name: 'container ids of every allowed form are taken',
    runs: 'once',
    run: takesEach(GOOD_IDS, (pod, containerId) => ({ ...pod, containerId })),
  },
  {
    id: '03-ifname-bad',
    name: 'interface names that Linux would not take are refused with code 4',
    runs: 'each',
    run: refusesEach('CNI_IFNAME', BAD_IFNAMES, [4]),
  },
  {
    id: '03-ifname-good',
    name: 'interface names of every allowed form are taken',
    runs: 'once',
    run: takesEach(GOOD_IFNAMES, (pod, ifname) => ({ ...pod, ifname })),
  },
  {
    id: '03-network-bad',
    name: 'network names that break the pattern are refused with code 7',
    runs: 'each',
    run: async context => {
      const pod = await context.pod()
      for (const name of [undefined, ...BAD_NETWORKS]) {
        const answer = await context.call('ADD', pod, { config: { name } })
        refused(answer, [7], `the name ${JSON.stringify(name) ?? 'absent'}: `)
      }
      return `all of ${BAD_NETWORKS.length} are refused, and none at all`
    },
  },
  {
    id: '03-network-good',
    name: 'network names of every allowed form are taken',
    runs: 'once',
    run: async context => {
      for (const name of GOOD_NETWORKS) {
        await context.del(await context.add(undefined, { config: { name } }), { config: { name } })
      }
      return `all of ${GOOD_NETWORKS.length} are taken: ${GOOD_NETWORKS.join(', ')}`
    },
  },
  {
    id: '07-args-unknown',
    name: 'unknown CNI_ARGS with IgnoreUnknown=1 are tolerated',
    runs: 'each',
    run: async context => {
      const env = { CNI_ARGS: 'IgnoreUnknown=1;FOO=bar;K8S_POD_NAME=web-0;K8S_NEW_THING=x' }
      await context.del(await context.add(undefined, { env }), { env })
      return 'ADD and DEL succeeded'
    },
  },
]
