/**
 * What the daemon needs of the host, looked at before anything is touched. A finding says what is
 * missing, what that means and what helps; an `error` stops the daemon, a `warning` is logged.
 */
import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { DaemonConfig } from './config.ts'

export interface Finding {
  level: 'error' | 'warning'
  message: string
}

/** Facts about the host; `probeHost` gathers the real ones. */
export interface HostFacts {
  /** Effective capabilities, a bit mask as in /proc/self/status. */
  capabilities: bigint
  /** Why /dev/net/tun can't be opened; absent when it can. */
  tun?: string
  /** Whether the kernel has AF_XDP sockets. */
  afXdp: boolean
  /** Whether `nft` is in PATH. */
  nft: boolean
  kernel: string
}

/** Numbers from linux/capability.h, and what each is needed for. */
const CAPABILITIES = [
  ['CAP_NET_ADMIN', 12, 'error', 'no pod can be attached: it makes devices, addresses and routes'],
  ['CAP_SYS_ADMIN', 21, 'error', "no pod can be attached: it enters the pods' network namespaces"],
  [
    'CAP_NET_RAW',
    13,
    'warning',
    'AF_XDP can not be used: the underlay uses UDP sockets, pods are attached by TUN only',
  ],
] as const

const TUN_DEVICE = '/dev/net/tun'

export function probeHost(): HostFacts {
  const facts: HostFacts = {
    capabilities: BigInt(`0x${field('/proc/self/status', /^CapEff:\s*([0-9a-f]+)$/m) ?? '0'}`),
    afXdp: field('/proc/net/protocols', /^(XDP)\s/m) !== undefined,
    nft: inPath('nft'),
    kernel: field('/proc/sys/kernel/osrelease', /^(\S+)/) ?? 'unknown',
  }
  const tun = tunProblem()
  return tun === undefined ? facts : { ...facts, tun }
}

/** What is wrong with the host for this configuration; empty if nothing is. */
export function checkHost(config: DaemonConfig, facts: HostFacts): Finding[] {
  const findings: Finding[] = []
  for (const [name, bit, level, meaning] of CAPABILITIES) {
    if (((facts.capabilities >> BigInt(bit)) & 1n) === 1n) continue
    findings.push({
      level,
      message: `${name} is missing: ${meaning} (run as root, or add ${name})`,
    })
  }
  if (facts.tun !== undefined) {
    findings.push({
      level: 'error',
      message: `${TUN_DEVICE}: ${facts.tun}: the node's own port and TUN pods need it (modprobe tun; in a container mount ${TUN_DEVICE})`,
    })
  }
  const mode = config.dataplane.underlay?.mode ?? 'auto'
  if (!facts.afXdp) {
    const message = `AF_XDP sockets are missing in kernel ${facts.kernel} (CONFIG_XDP_SOCKETS)`
    findings.push(
      mode === 'xdp'
        ? { level: 'error', message: `${message}, but underlay.mode is xdp (use auto or udp)` }
        : {
            level: 'warning',
            message: `${message}: the underlay uses UDP sockets, pods are attached by TUN only`,
          },
    )
  }
  if (config.dataplane.masquerade && !facts.nft) {
    findings.push({
      level: 'error',
      message: 'masquerade: nft is not in PATH (install nftables, or set masquerade: false)',
    })
  }
  return findings
}

function field(file: string, pattern: RegExp): string | undefined {
  try {
    return pattern.exec(readFileSync(file, 'utf8'))?.[1]
  } catch {
    return undefined
  }
}

function inPath(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some(folder => {
    if (folder === '') return false
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function tunProblem(): string | undefined {
  try {
    if (!statSync(TUN_DEVICE).isCharacterDevice()) return 'not a character device'
    accessSync(TUN_DEVICE, constants.R_OK | constants.W_OK)
    return undefined
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return code === 'ENOENT' ? 'no such device' : code === 'EACCES' ? 'permission denied' : message
  }
}
