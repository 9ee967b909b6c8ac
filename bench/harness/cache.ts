/** Where programs that are built once are kept, outside the checkout: a clean one finds them again. */
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'

/** $XDG_CACHE_HOME/hawser, else ~/.cache/hawser: the XDG specification says that a relative path is none. */
export function cacheFolder(): string {
  const named = process.env['XDG_CACHE_HOME'] ?? ''
  return join(isAbsolute(named) ? named : join(homedir(), '.cache'), 'hawser')
}
