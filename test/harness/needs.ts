/** What tests need of the machine: undefined when it is there, else the reason of the skip, told once. */
import { existsSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { goCause } from './prebuilt.ts'
import { impossible, lacking } from './skip.ts'

/** Where Debian puts the plugins of the CNI project. */
export const CNI_PLUGINS = '/usr/lib/cni'

/** Whether a program is in PATH, or at its path. */
export function hasProgram(name: string): boolean {
  if (isAbsolute(name)) return existsSync(name)
  return (process.env['PATH'] ?? '').split(delimiter).some(path => existsSync(join(path, name)))
}

/** The program `name`, or a path, of a Debian package; `what` is left out without it. */
export function noProgram(name: string, debian: string, what: string): string | undefined {
  if (hasProgram(name)) return undefined
  return lacking(`${name} is missing (Debian package ${debian}): ${what}`)
}

/** nftables' `nft`; `what` is left out without it. */
export function noNft(what: string): string | undefined {
  return noProgram('nft', 'nftables', what)
}

/** A plugin of the CNI project; `what` is left out without it. */
export function noPlugin(name: string, what: string): string | undefined {
  return noProgram(join(CNI_PLUGINS, name), 'containernetworking-plugins', what)
}

/** A Go that is new enough; `what` is built from source. */
export function noGo(what: string): string | undefined {
  const cause = goCause()
  return cause === undefined ? undefined : impossible(`${cause}: ${what} is built from source`)
}

/** Outside data at `path`, which are not part of the checkout. */
export function noData(path: string): string | undefined {
  if (existsSync(path)) return undefined
  return impossible(`${path} is not there (HAWSER_DATA names the folder of outside data)`)
}
