/**
 * Writes the packet cases that are built in cases/, one folder each, beside this file:
 *
 *     node_modules/.bin/node test/packets/generate.ts
 *
 * What must come out is built by test/harness/packets.ts, which knows nothing of the engine.
 */
import { rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type PacketCase, writeCase } from './case.ts'
import { answers } from './cases/answers.ts'
import { forward } from './cases/forward.ts'
import { networks } from './cases/networks.ts'
import { offload } from './cases/offload.ts'
import { refused } from './cases/refused.ts'

export const GENERATED: Readonly<Record<string, PacketCase>> = {
  ...forward,
  ...offload,
  ...answers,
  ...refused,
  ...networks,
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const here = dirname(fileURLToPath(import.meta.url))
  for (const [name, one] of Object.entries(GENERATED)) {
    rmSync(join(here, name), { recursive: true, force: true })
    writeCase(join(here, name), one)
  }
  console.log(`${Object.keys(GENERATED).length} cases`)
}
