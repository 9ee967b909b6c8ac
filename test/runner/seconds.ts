/**
 * How long test files take: what this machine has measured (in the cache folder), else what is written
 * down here for a machine that has not. Only the order in which files start depends on it.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { cacheFolder } from '../../bench/harness/cache.ts'

/** Seconds of the longest, on two cores, each file alone. */
const USUAL: Readonly<Record<string, number>> = {
  'test/conformance/hawser.test.ts': 150,
  'test/conformance/hung.test.ts': 110,
  'test/containerd/churn.test.ts': 90,
  'test/conformance/control.test.ts': 80,
  'test/netns/kill.test.ts': 80,
  'test/kubernetes/kubelet.test.ts': 70,
  'test/policy/tap.test.ts': 70,
  'test/policy/tun.test.ts': 70,
  'test/policy/xdp.test.ts': 70,
  'test/containerd/pods.test.ts': 60,
  'test/containerd/reboot.test.ts': 60,
  'test/netns/power-loss.test.ts': 50,
  'test/podman/podman.test.ts': 40,
  'test/netns/paths.test.ts': 40,
  'test/conformance/broken.test.ts': 30,
  'test/dataplane/fib/full-table.test.ts': 30,
  'test/dataplane/fib/fib.test.ts': 25,
  'test/dataplane/fib/concurrent.test.ts': 22,
  'test/bench/fib/suite.test.ts': 20,
  'test/dataplane/acl/acl.test.ts': 19,
  'test/dataplane/fib/property.test.ts': 16,
  'test/dataplane/acl/sets.test.ts': 15,
  'test/cni/secondary/interfaces.test.ts': 13,
  'test/dataplane/devices/pod.test.ts': 12,
  'test/dataplane/fib/dxr.test.ts': 12,
  'test/dataplane/acl/steps.test.ts': 11,
  'test/bench/wire/suite.test.ts': 11,
  'test/dataplane/fib/load.test.ts': 11,
  'test/dataplane/acl/concurrent.test.ts': 10,
  'test/cni/pods/rebuild.test.ts': 10,
  'test/dataplane/fib/poptrie.test.ts': 10,
  'test/dataplane/worker/pool.test.ts': 9,
}

const recorded = (): string => join(cacheFolder(), 'test/seconds.json')

/** Seconds by file, as paths from the top of the checkout. */
export function secondsOf(): Record<string, number> {
  try {
    return { ...USUAL, ...(JSON.parse(readFileSync(recorded(), 'utf8')) as Record<string, number>) }
  } catch {
    return { ...USUAL }
  }
}

/** Keeps what a run has measured, beside what is kept of other files. */
export function keepSeconds(measured: Readonly<Record<string, number>>): void {
  const known = existsSync(recorded()) ? secondsOf() : {}
  mkdirSync(dirname(recorded()), { recursive: true })
  writeFileSync(recorded(), `${JSON.stringify({ ...known, ...measured }, null, 2)}\n`)
}

/** Files written down here; a test holds that they exist. */
export const WRITTEN_DOWN = Object.keys(USUAL)
