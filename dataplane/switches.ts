/** Switches of the kernel below /proc/sys/net, which may not be there: IPv6 is off, the interface is gone. */
import { native } from '../native/native.ts'

/** The value of `key` (`ipv4/ip_forward`) in `netns`; undefined where there is no such switch. */
export function readSwitch(netns: string, key: string): string | undefined {
  return unlessGone(() => native.sysctlRead(netns, key).trim())
}

/**
 * Gives a switch a value unless it has it: writing some again resets others. Returns the value that
 * it had before; undefined when nothing had to be written, or there is no such switch.
 */
export function setSwitch(netns: string, key: string, value: string): string | undefined {
  const before = readSwitch(netns, key)
  if (before === undefined || before === value) return undefined
  return unlessGone(() => {
    native.sysctlWrite(netns, key, value)
    return before
  })
}

/** Gives a switch a value whatever it has; false where there is no such switch. For those that reset nothing else. */
export function writeSwitch(netns: string, key: string, value: string): boolean {
  return (
    unlessGone(() => {
      native.sysctlWrite(netns, key, value)
      return true
    }) ?? false
  )
}

/** Whether the kernel of `netns` has IPv6 at all (`ipv6.disable=1` takes it away). */
export function hasIpv6(netns: string): boolean {
  return readSwitch(netns, 'ipv6/conf/all/disable_ipv6') !== undefined
}

function unlessGone<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
}
