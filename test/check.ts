/** `npm run check`: what a person runs before a commit. Format, lint, types, then the unit tests (all but test/netns, contract, deploy, conformance, containerd, kubernetes, podman). */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { staticChecks } from './static.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const failed = staticChecks(root)
const vitest = join(root, 'node_modules/vitest/vitest.mjs')
const left = [
  'netns',
  'contract',
  'deploy',
  'conformance',
  'containerd',
  'kubernetes',
  'podman',
].flatMap(each => ['--exclude', `test/${each}/**`])
const done = spawnSync(process.execPath, [vitest, 'run', ...left], {
  cwd: root,
  stdio: 'inherit',
})
process.exit(failed === 0 && done.status === 0 ? 0 : 1)
