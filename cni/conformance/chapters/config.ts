/** The network configuration on stdin: broken, too much, or with keys that are not the plugin's (contract 4, 7). */
import { refused, told } from '../answer.ts'
import type { Case } from '../case.ts'
import type { Config } from '../subject.ts'

const HUGE_BYTES = 16 * 1024 * 1024
const LARGE_BYTES = 256 * 1024
const NESTING = 200_000

/** What containerd and Kubernetes put beside a plugin's own keys. */
const FOREIGN: readonly [id: string, name: string, config: Config][] = [
  [
    '07-unknown-keys',
    'keys that nobody knows are tolerated',
    { zz: 1, 'x-unknown': { a: [null, true, { b: 'c' }] }, 'cni.dev/something': ['x'] },
  ],
  [
    '07-capabilities',
    'capabilities and runtimeConfig are tolerated',
    {
      capabilities: { portMappings: true, bandwidth: true, dns: true },
      runtimeConfig: {
        portMappings: [{ hostPort: 18_080, containerPort: 80, protocol: 'tcp', hostIP: '' }],
        bandwidth: { ingressRate: 1_000_000, ingressBurst: 1_000_000 },
        dns: { servers: ['192.0.2.53'], searches: ['cluster.local'], options: ['ndots:5'] },
        cgroupPath: '/kubepods/besteffort/pod1',
      },
    },
  ],
  [
    '07-pod-annotations',
    "containerd's pod annotations are tolerated, also 256 KiB of them",
    { 'io.kubernetes.cri.pod-annotations': { note: 'ü\n"\\', large: 'x'.repeat(LARGE_BYTES) } },
  ],
]

/** ADD with broken stdin. */
function broken(
  id: string,
  name: string,
  codes: readonly number[],
  stdins: (config: string) => readonly (string | Buffer)[],
  runs: 'each' | 'once' = 'each',
): Case {
  return {
    ...{ id, name, runs },
    run: async context => {
      const pod = await context.pod()
      const { subject, version: cniVersion } = context
      const whole = JSON.stringify({ ...subject.config, cniVersion, name: subject.network })
      let last = ''
      for (const stdin of stdins(whole)) {
        const answer = await context.call('ADD', pod, { stdin })
        refused(answer, codes, `${JSON.stringify(stdin.toString().slice(0, 24))}: `)
        last = told(answer)
      }
      return last
    },
  }
}

export const config: readonly Case[] = [
  broken('04-config-empty', 'ADD without a configuration is refused with code 6', [6], () => ['']),
  broken('04-config-no-json', 'what is not JSON is refused with code 6', [6], whole => [
    'cni',
    whole.replaceAll('"', "'"),
    `${whole}}`,
    `${whole.slice(0, -1)},}`,
  ]),
  broken('04-config-truncated', 'JSON that ends early is refused with code 6', [6], whole => [
    '{',
    whole.slice(0, whole.length >> 1),
    whole.slice(0, -1),
  ]),
  broken('04-config-no-object', 'JSON that is no object is refused', [6, 7], () => [
    '[]',
    '"x"',
    '7',
    'null',
  ]),
  broken(
    '04-config-huge',
    'megabytes of rubbish are refused, in bounded time',
    [],
    () => [Buffer.alloc(HUGE_BYTES, 'x'), Buffer.alloc(HUGE_BYTES, ' ')],
    'once',
  ),
  broken(
    '04-config-deep',
    'JSON that is nested without end is refused',
    [],
    () => ['['.repeat(NESTING), `{"a":${'['.repeat(NESTING)}`],
    'once',
  ),
  ...FOREIGN.map(
    ([id, name, keys]): Case => ({
      ...{ id, name, runs: 'each' },
      run: async context => {
        const attached = await context.add(undefined, { config: keys })
        await context.del(attached, { config: keys })
        return 'ADD and DEL succeeded'
      },
    }),
  ),
]
