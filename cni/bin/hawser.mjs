#!/usr/bin/env node
// Runs the command line on the Node that this package pins, whatever Node started this file: the
// command line is TypeScript, which older versions can't run. Plain JavaScript, no dependencies.
import { spawn } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(realpathSync(fileURLToPath(import.meta.url)))

/** node_modules/.bin/node of this package, or of one that has it as a dependency. */
function pinnedNode() {
  for (let folder = here; ; folder = dirname(folder)) {
    const node = join(folder, 'node_modules/.bin/node')
    if (existsSync(node)) return node
    if (folder === dirname(folder)) return undefined
  }
}

const node = pinnedNode()
if (node === undefined) {
  process.stderr.write(`hawser: no node_modules/.bin/node above ${here} (run npm ci there)\n`)
  process.exit(1)
}

// MiB of V8's young generation, half of it. A daemon keeps what it reads, and makes little garbage: with the default of 16
// its heap grows by 100 MB more while it reads a cluster file of 5,000 nodes.
const SEMI_SPACE = '--max-semi-space-size=2'

const main = join(here, '../cli/main.ts')
const child = spawn(node, [SEMI_SPACE, main, ...process.argv.slice(2)], { stdio: 'inherit' })

// A supervisor signals only this process. A terminal signals both, so the daemon may see one signal
// twice; it takes that as the same request.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGQUIT']) {
  process.on(signal, () => child.kill(signal))
}

child.on('error', error => {
  process.stderr.write(`hawser: ${node}: ${error.message}\n`)
  process.exitCode = 1
})
child.on('exit', (code, signal) => {
  if (signal === null) process.exit(code)
  // 128 + number, as a shell reports it: this process has handlers and can't die of the signal.
  process.exit(128 + constants.signals[signal])
})
