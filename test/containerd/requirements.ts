/** Why tests with a container runtime can't run on this machine. */
import { hasProgram } from '../harness/needs.ts'
import { impossible, lacking } from '../harness/skip.ts'
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

/** The first thing that is missing; undefined when nothing is. Tells it: a skipped test says why. */
export function missing(
  programs: readonly (readonly [string, string])[] = PROGRAMS,
): string | undefined {
  const absent = programs.find(([name]) => !hasProgram(name))
  if (absent !== undefined) return lacking(`${absent[0]} is missing (${absent[1]})`)
  const cause = cgroupProblem()
  return cause === undefined ? undefined : impossible(cause)
}
