/**
 * `npm run check`: what a person runs before a commit. Format, lint and types beside the unit tests that
 * take seconds (runner/tiers.ts). Installs nothing: what lacks a package is skipped, and says so.
 */
import { fileURLToPath } from 'node:url'
import { closing, underCi } from './runner/closing.ts'
import { runVitest } from './runner/vitest.ts'
import { staticChecks } from './static.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const [failedChecks, outcome] = await Promise.all([
  staticChecks(root),
  runVitest(root, 'check', process.argv.slice(2)),
])
const { text, failed } = closing(outcome, failedChecks, underCi(process.env))
process.stdout.write(text)
process.exit(failed === 0 ? 0 : 1)
