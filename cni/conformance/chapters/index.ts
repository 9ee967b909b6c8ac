/** All cases, in the order that they are run in. */
import type { Case } from '../case.ts'
import { add } from './add.ts'
import { chain } from './chain.ts'
import { check } from './check.ts'
import { config } from './config.ts'
import { daemon } from './daemon.ts'
import { del } from './del.ts'
import { environment } from './environment.ts'
import { gc } from './gc.ts'
import { ipam } from './ipam.ts'
import { poolAtEnd, poolAtStart } from './pool.ts'
import { result } from './result.ts'
import { status } from './status.ts'
import { version } from './version.ts'

export const CASES: readonly Case[] = [
  ...[version, environment, config, poolAtStart, result, add, del, check].flat(),
  ...[status, gc, chain, ipam, daemon, poolAtEnd].flat(),
]
