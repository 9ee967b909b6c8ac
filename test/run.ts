/**
 * `npm test`: everything, on real devices in network namespaces of their own; `npm run test:long`:
 * everything at length. Installs and builds what tests need, checks what costs seconds, then runs. With
 * words behind it (files, vitest's options) it runs only these. Ends with `N passed, N failed`.
 */
import { fileURLToPath } from 'node:url'
import { closing, underCi } from './runner/closing.ts'
import { installPackages } from './runner/packages.ts'
import { prebuild } from './runner/prebuild.ts'
import { keepSeconds } from './runner/seconds.ts'
import { runVitest } from './runner/vitest.ts'
import { staticChecks } from './static.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
if (process.getuid?.() !== 0) {
  process.stderr.write('hawser: the tests make network namespaces and devices: run them as root\n')
  process.exit(1)
}
const words = process.argv.slice(2).filter(word => word !== '--long')
const tier = process.argv.includes('--long') ? 'long' : 'test'
let failedBefore = 0
if (words.length === 0) {
  installPackages()
  failedBefore = (await staticChecks(root)) + (await prebuild())
}
const outcome = await runVitest(root, tier, words)
if (words.length === 0 && tier === 'test') {
  keepSeconds(Object.fromEntries(outcome.files.map(({ file, seconds }) => [file, seconds])))
}
const { text, failed } = closing(outcome, failedBefore, underCi(process.env))
process.stdout.write(text)
process.exit(failed === 0 ? 0 : 1)
