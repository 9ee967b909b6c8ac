/** Policy of a node, as the daemon starts it. */
import { join } from 'node:path'
import { refuseForeignFile, refuseForeignLinks } from '../fs/links.ts'
import { type KeeperParts, PolicyKeeper } from './keeper.ts'
import { KeptNames } from './kept-names.ts'
import { LastGoodPolicy } from './last-good.ts'
import { PolicySource } from './source.ts'

/**
 * Begins to enforce what the files in `folder` say; resolves when all that there is, pods included, is in force, or
 * closed. `statePath`: beside which the last good files are kept. Throws when others may write to either.
 */
export async function openPolicy(
  folder: string,
  statePath: string,
  parts: Omit<KeeperParts, 'source' | 'lastGood' | 'names'>,
): Promise<PolicyKeeper> {
  refuseForeignLinks(folder)
  // Of the folder, whatever is in it.
  refuseForeignFile(join(folder, 'any'))
  const lastGood = new LastGoodPolicy(`${statePath}.policy`, parts.log)
  refuseForeignFile(lastGood.path)
  const names = new KeptNames(`${statePath}.names`, parts.plane, parts.log)
  refuseForeignFile(names.path)
  const source = new PolicySource(folder, lastGood, parts.log)
  const keeper = new PolicyKeeper({ ...parts, source, lastGood, names })
  await keeper.first()
  return keeper
}
