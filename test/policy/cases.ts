/** All cases, in the order of README.md's list. */
import { CHANGES } from './cases/changes.ts'
import { EGRESS } from './cases/egress.ts'
import { INGRESS } from './cases/ingress.ts'
import { PORTS } from './cases/ports.ts'
import { BY_PROTOCOL } from './cases/protocols.ts'
import type { Case } from './world.ts'

export const CASES: readonly Case[] = [...INGRESS, ...PORTS, ...CHANGES, ...EGRESS, ...BY_PROTOCOL]
