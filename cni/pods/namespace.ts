/** Namespaces of pods, as paths that a runtime has named. */
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { netnsIdentity, ownNetns } from '../../dataplane/netns.ts'
import { CniError, CODE } from '../spec/errors.ts'
import type { Attachment } from '../state/state.ts'

/** The namespace at `path`; throws CniError when it is none (code 4) or the node's own (code 8). */
export function podNamespace(path: string): { dev: bigint; ino: bigint } {
  let found: { dev: bigint; ino: bigint }
  try {
    found = netnsIdentity(path)
  } catch (error) {
    throw new CniError(CODE.environment, `CNI_NETNS: ${(error as Error).message}`, '', {
      cause: error,
    })
  }
  const own = ownNetns()
  if (found.dev === own.dev && found.ino === own.ino) {
    throw new CniError(CODE.ownNetns, `CNI_NETNS ${path}: it is the node's own namespace`)
  }
  return found
}

/**
 * Whether an attachment's namespace is still there. `gone` only when that is certain: a path that
 * merely can't be read as a namespace may be a mount that this process doesn't see yet.
 */
export function look({
  netns,
  netnsDev,
  netnsIno,
}: Pick<Attachment, 'netns' | 'netnsDev' | 'netnsIno'>): 'there' | 'gone' | 'unsure' {
  try {
    const { dev, ino } = netnsIdentity(netns)
    return String(dev) === netnsDev && String(ino) === netnsIno ? 'there' : 'gone'
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') return 'unsure'
    return existsSync(dirname(netns)) || netns.startsWith('/proc/') ? 'gone' : 'unsure'
  }
}
