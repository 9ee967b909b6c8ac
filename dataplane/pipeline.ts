/**
 * The whole packet path. Every batch goes down this list; a stage that does not concern the kind of
 * port that the batch came in by is left out.
 *
 *   pod        parse  neighbour  antiSpoof  policeEgress  flow  route  policy  dns  icmpErrors  policeIngress  coalesce  segment  encap  transmit
 *   host       parse             antiSpoof                flow  route  policy  dns  icmpErrors  policeIngress  coalesce  segment  encap  transmit
 *   underlay   parse  decap      antiSpoof                flow  route  policy  dns  icmpErrors  policeIngress  coalesce  segment  encap  transmit
 *
 * A stage works on the batch where it lies; `segment` alone makes several packets of one, and hands
 * them on in order (engine/path.ts says how, and who runs what is behind it).
 */

import { type Entry, type Path, pathOf } from './engine/path.ts'
import { PORT_ROLE } from './ports/port.ts'
import { antiSpoof } from './stages/anti-spoof.ts'
import { coalesce } from './stages/coalesce.ts'
import { decap } from './stages/decap.ts'
import { dns } from './stages/dns.ts'
import { encap } from './stages/encap.ts'
import { flow } from './stages/flow.ts'
import { icmpErrors } from './stages/icmp-errors.ts'
import { neighbour } from './stages/neighbour.ts'
import { parse } from './stages/parse.ts'
import { policeEgress, policeIngress } from './stages/police.ts'
import { policy } from './stages/policy/stage.ts'
import { route } from './stages/route.ts'
import { segment } from './stages/segment.ts'
import { transmit } from './stages/transmit.ts'

const { POD, HOST, UNDERLAY } = PORT_ROLE

export const PIPELINE: readonly Entry[] = [
  { name: 'parse', roles: POD | HOST | UNDERLAY, run: parse },
  { name: 'neighbour', roles: POD, run: neighbour },
  { name: 'decap', roles: UNDERLAY, run: decap },
  { name: 'antiSpoof', roles: POD | HOST | UNDERLAY, run: antiSpoof },
  { name: 'policeEgress', roles: POD, run: policeEgress },
  { name: 'flow', roles: POD | HOST | UNDERLAY, run: flow },
  { name: 'route', roles: POD | HOST | UNDERLAY, run: route },
  { name: 'policy', roles: POD | HOST | UNDERLAY, run: policy },
  { name: 'dns', roles: POD | HOST | UNDERLAY, run: dns },
  { name: 'icmpErrors', roles: POD | HOST | UNDERLAY, run: icmpErrors },
  { name: 'policeIngress', roles: POD | HOST | UNDERLAY, run: policeIngress },
  { name: 'coalesce', roles: POD | HOST | UNDERLAY, run: coalesce },
  { name: 'segment', roles: POD | HOST | UNDERLAY, expand: segment },
  { name: 'encap', roles: POD | HOST | UNDERLAY, run: encap },
  { name: 'transmit', roles: POD | HOST | UNDERLAY, run: transmit },
]

/** The whole path of one role, for one worker. */
export function pathOfRole(role: number): Path {
  return pathOf(PIPELINE, role)
}
