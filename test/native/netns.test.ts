import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { native } from '../../native/native.ts'
import { addNamespace, removeNamespaces } from './namespace.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hwt-netns-'))
})
afterEach(() => {
  removeNamespaces()
  rmSync(folder, { recursive: true })
})

describe('netnsIdentity', () => {
  test('is the device and inode of the namespace', () => {
    const [a, b] = [addNamespace(), addNamespace()]
    const { dev, ino } = statSync(a.path, { bigint: true })
    expect(native.netnsIdentity(a.path)).toEqual({ dev, ino })
    expect(native.netnsIdentity(b.path)).not.toEqual({ dev, ino })
    const own = statSync('/proc/self/ns/net', { bigint: true })
    expect(native.netnsIdentity('')).toEqual({ dev: own.dev, ino: own.ino })
  })

  test('refuses what is no network namespace, without opening it', () => {
    const file = join(folder, 'file')
    const pipe = join(folder, 'pipe')
    writeFileSync(file, '')
    // Opening a pipe that nobody writes to would block for ever.
    execFileSync('mkfifo', [pipe])
    for (const path of [
      file,
      pipe,
      folder,
      '/dev/null',
      '/proc/self/ns/pid',
      '/proc/self/status',
    ]) {
      const refused = expect.objectContaining({ code: 'EINVAL', errno: 22 })
      expect(() => native.netnsIdentity(path), path).toThrow(refused)
      expect(() => native.sysctlRead(path, 'ipv4/ip_forward'), path).toThrow(refused)
      expect(() => native.interfaceIndex(path, 'lo'), path).toThrow(refused)
    }
  })

  test('says that a namespace is gone', () => {
    expect(() => native.netnsIdentity(join(folder, 'gone'))).toThrow(
      `network namespace ${folder}/gone: No such file or directory (the namespace is gone)`,
    )
  })
})

describe('sysctl', () => {
  test('reads and writes inside the namespace only', () => {
    const { path } = addNamespace()
    const mine = readFileSync('/proc/sys/net/ipv4/ip_default_ttl', 'utf8').trim()
    const other = mine === '99' ? '98' : '99'
    native.sysctlWrite(path, 'ipv4/ip_default_ttl', other)
    expect(native.sysctlRead(path, 'ipv4/ip_default_ttl')).toBe(other)
    expect(native.sysctlRead('', 'ipv4/ip_default_ttl')).toBe(mine)
    expect(readFileSync('/proc/sys/net/ipv4/ip_default_ttl', 'utf8').trim()).toBe(mine)
  })

  test('reaches interfaces that only the namespace has, dots in their names included', () => {
    const namespace = addNamespace()
    namespace.ip('link', 'add', 'hw.7', 'type', 'veth', 'peer', 'name', 'hw.8')
    native.sysctlWrite(namespace.path, 'ipv4/conf/hw.7/rp_filter', '2')
    expect(native.sysctlRead(namespace.path, 'ipv4/conf/hw.7/rp_filter')).toBe('2')
    expect(native.sysctlRead(namespace.path, 'ipv4/conf/hw.8/rp_filter')).not.toBe('2')
    expect(() => native.sysctlRead('', 'ipv4/conf/hw.7/rp_filter')).toThrow(/no such interface/)
  })

  test.each([
    '../kernel/hostname',
    'ipv4/../../kernel/hostname',
    '..',
    '',
    '/ipv4',
    'ipv4//x',
    './x',
  ])('refuses the key %j', key => {
    const refused = expect.objectContaining({ code: 'EINVAL' })
    expect(() => native.sysctlRead('', key)).toThrow(refused)
    expect(() => native.sysctlWrite('', key, 'x')).toThrow(refused)
  })

  test('names the setting, the value and the namespace when the kernel refuses', () => {
    const { path } = addNamespace()
    expect(() => native.sysctlWrite(path, 'ipv4/ip_default_ttl', 'soon')).toThrow(
      `sysctl net/ipv4/ip_default_ttl = soon in ${path}: Invalid argument (the kernel refuses this value)`,
    )
    expect(() => native.sysctlRead(path, 'ipv4/nothing')).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    )
    expect(() => native.sysctlRead(path, 'ipv4\0/x')).toThrow(/NUL/)
  })
})
