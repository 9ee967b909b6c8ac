/** nftables rules: a file on nft's stdin, one transaction, in the process's own namespace. */
import { spawn } from 'node:child_process'

/**
 * What nft says that `object` is (`table inet t`); empty when it is not there. `flags`: such as `-a`,
 * which shows handles. Throws when nft can't be run.
 */
export async function listRules(
  what: string,
  object: string,
  flags: readonly string[] = [],
): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    const nft = spawn('nft', [...flags, 'list', ...object.split(' ')], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const said: Buffer[] = []
    nft.stdout.on('data', (chunk: Buffer) => said.push(chunk))
    nft.on('error', error => reject(new Error(`${what}: nft: ${error.message}`)))
    nft.on('close', code => resolve(code === 0 ? Buffer.concat(said).toString() : ''))
  })
}

/** Applies `rules`. Throws when nft is missing (`remedy` says what else helps) or refuses them. */
export async function applyRules(what: string, rules: string, remedy: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const nft = spawn('nft', ['-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'] })
    let said = ''
    nft.stderr.on('data', chunk => {
      said += String(chunk)
    })
    nft.on('error', error =>
      reject(new Error(`${what}: nft: ${error.message} (install nftables, or ${remedy})`)),
    )
    nft.on('close', code => {
      if (code === 0) resolve()
      else reject(new Error(`${what}: nft ended with ${code}: ${said.trim().slice(0, 1000)}`))
    })
    nft.stdin.on('error', () => {})
    nft.stdin.end(rules)
  })
}
