/** `hawser flows`: what policy lets through, and what it denies as it does. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Command } from 'commander'
import { printable, table } from '../base/table.ts'
import { DEFAULT_SOCKET } from '../daemon/config.ts'
import type { ToldDenial, ToldDenials, ToldFlow } from '../enforce/told.ts'
import { query } from '../rpc/client.ts'

/** Milliseconds between two questions; without --follow the first is the last. */
const LOOK_MS = 500
const ONCE_MS = 2_000

interface FlowsFlags {
  socket: string
  json?: boolean
  denied?: boolean
  follow?: boolean
}

export function addFlows(program: Command): void {
  program
    .command('flows')
    .description('flows that policy has allowed; or packets that it denies')
    .option('--socket <path>', "the daemon's unix socket", DEFAULT_SOCKET)
    .option(
      '--denied',
      'what is denied in the next two seconds, and what rules tell that are logged or staged',
    )
    .option('--follow', 'with --denied: until it is interrupted')
    .option('--json', 'print the answer as JSON; of denials one a line')
    .action(flows)
}

async function flows({ socket, json, denied, follow }: FlowsFlags): Promise<void> {
  if (!denied) {
    const found = (await query(socket, 'flows')) as ToldFlow[]
    return print(json ? JSON.stringify(found, null, 2) : showFlows(found))
  }
  const ask = async (read: readonly number[]): Promise<ToldDenials> =>
    (await query(socket, `denials ${read.join()}`)) as ToldDenials
  let { read } = await ask([])
  do {
    await pause(follow ? LOOK_MS : ONCE_MS)
    const found = await ask(read)
    read = found.read
    for (const each of found.denials) print(json ? JSON.stringify(each) : showDenial(each))
    if (found.missed > 0) process.stderr.write(`${found.missed} more, not told one by one\n`)
  } while (follow)
}

/** Whose rules let a flow through; `-`: no policy isolates that end, or it is no pod of this node. */
export function showFlows(found: readonly ToldFlow[]): string {
  if (found.length === 0) return 'there are no flows that policy has allowed'
  return table(
    [
      ...['PROTOCOL', 'SOURCE', 'PORT', 'DESTINATION', 'PORT', 'STATE', 'AGE S', 'IDLE S'],
      ...['PACKETS', 'BYTES', 'EGRESS BY', 'INGRESS BY', 'OVERLAY'],
    ],
    found.map(each => [
      protocolName(each.protocol),
      each.source,
      each.sourcePort,
      each.destination,
      each.destinationPort,
      each.state,
      each.age,
      each.idle,
      each.packets,
      each.bytes,
      each.egress ?? '-',
      each.ingress ?? '-',
      each.network,
    ]),
  )
}

/** What became of a packet; `staged`: what it would have been otherwise by. */
const VERDICT_TEXT = {
  denied: 'denied by',
  allowed: 'allowed by',
  staged: 'would be otherwise by',
} as const

/** A line for a packet that policy has denied, or tells of. */
export function showDenial(denial: ToldDenial): string {
  const {
    time,
    direction,
    node,
    pod = node ? 'the node' : 'a pod that has gone',
    name = pod,
    protocol,
    verdict,
    by,
  } = denial
  const { source, sourcePort, destination, destinationPort } = denial
  const flow = `${end(source, sourcePort)} -> ${end(destination, destinationPort)}`
  return printable(
    `${time} ${direction} of ${name}: ${protocolName(protocol)} ${flow}: ${VERDICT_TEXT[verdict]} ${by}`,
  )
}

function end(address: string, port: number): string {
  if (port === 0) return address
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** IANA's names of what is met most. */
const PROTOCOL_NAMES: ReadonlyMap<number, string> = new Map([
  [1, 'icmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [58, 'icmpv6'],
  [132, 'sctp'],
])

function protocolName(protocol: number): string {
  return PROTOCOL_NAMES.get(protocol) ?? `${protocol}`
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}
