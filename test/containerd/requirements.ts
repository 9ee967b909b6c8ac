/** Why tests with a container runtime can't run on this machine. */
import { existsSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { cgroupProblem } from './cgroups.ts'
import { LOOPBACK } from './runtime.ts'

const PROGRAMS = [
  ['containerd', 'Debian package containerd'],
  ['ctr', 'Debian package containerd'],
  ['runc', 'Debian package runc'],
  ['g++', 'Debian package g++'],
  ['nft', 'Debian package nftables'],
  [LOOPBACK, 'Debian package containernetworking-plugins'],
] as const

/** Whether a program is in PATH, or at its path. */
export function hasProgram(name: string): boolean {
  if (isAbsolute(name)) return existsSync(name)
  return (process.env['PATH'] ?? '').split(delimiter).some(path => existsSync(join(path, name)))
}

/** The first thing that is missing; undefined when nothing is. Prints it: a skipped test says why. */
export function missing(
  programs: readonly (readonly [string, string])[] = PROGRAMS,
): string | undefined {
  const absent = programs.find(([name]) => !hasProgram(name))
  const reason = absent === undefined ? cgroupProblem() : `${absent[0]} is missing (${absent[1]})`
  if (reason !== undefined) console.log(`skipped: ${reason}`)
  return reason
}
