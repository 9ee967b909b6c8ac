/** The section `install` of the daemon's configuration. */
import { resolve } from 'node:path'
import { z } from 'zod'
import { file, path } from '../base/fields.ts'
import { DEFAULT_BIN_DIR, DEFAULT_CONF_DIR, DEFAULT_CONFLIST, PACKAGED_CONFLIST } from './place.ts'

export const installSection = z.strictObject({
  binDir: path.default(DEFAULT_BIN_DIR),
  confDir: path.default(DEFAULT_CONF_DIR),
  conflist: file.default(DEFAULT_CONFLIST),
})

/** Absolute paths. */
export interface InstallConfig {
  binDir: string
  confDir: string
  conflist: string
}

/** The section with its list's path made absolute, from `folder`. */
export function installConfig(
  section: z.output<typeof installSection>,
  folder: string,
): InstallConfig {
  const { conflist } = section
  const packaged = conflist === DEFAULT_CONFLIST
  return { ...section, conflist: packaged ? PACKAGED_CONFLIST : resolve(folder, conflist) }
}
