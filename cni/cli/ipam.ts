/** `hawser ipam`: who has which address, and whether all that says so agrees. */
import type { Command } from 'commander'
import { printable, table } from '../base/table.ts'
import { DEFAULT_SOCKET } from '../daemon/config.ts'
import type { AddressCheck, AddressList, Finding } from '../pods/address-check.ts'
import { query, REPAIR_MS } from '../rpc/client.ts'

interface Flags {
  socket: string
  json?: boolean
  repair?: boolean
}

/** Adds the command and what stands below it. `check` exits with 1 when something is left amiss. */
export function addIpam(program: Command): void {
  const ipam = program.command('ipam').description("pods' addresses")
  const add = (name: string, description: string): Command =>
    ipam
      .command(name)
      .description(description)
      .option('--socket <path>', "the daemon's unix socket", DEFAULT_SOCKET)
      .option('--json', 'print the answer as JSON')
  add('show', 'who has which address, and which cool down').action(async (flags: Flags) => {
    const list = (await query(flags.socket, 'ipam show')) as AddressList
    print(flags, list, showAddresses(list))
  })
  add('check', 'how full the ranges are, and what does not agree')
    .option('--repair', 'mend what nobody can be using any more')
    .action(async (flags: Flags) => {
      const answer = flags.repair
        ? await query(flags.socket, 'ipam repair', REPAIR_MS)
        : await query(flags.socket, 'ipam check')
      const check = answer as AddressCheck
      print(flags, check, showCheck(check))
      if (check.findings.some(each => each.repair !== 'done')) process.exitCode = 1
    })
}

function print({ json }: Flags, answer: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(answer, null, 2) : text}\n`)
}

export function showAddresses({ attachments, cooling }: AddressList): string {
  const rows = attachments.map(each => [
    ...[each.ip4, each.ip6, each.pod, each.attachment, each.phase, each.from, time(each.created)],
  ])
  const heading = ['IPV4', 'IPV6', 'POD', 'ATTACHMENT', 'PHASE', 'FROM', 'SINCE']
  const held = rows.length === 0 ? 'no address is held' : table(heading, rows)
  if (cooling.length === 0) return held
  const freed = cooling.map(each => [each.address, time(each.freed)])
  return [held, '', table(['COOLS DOWN', 'FREED'], freed)].join('\n')
}

export function showCheck({ ranges, findings }: AddressCheck): string {
  const rows = ranges.map(each => [
    ...[each.range, each.network, each.overlay, each.free],
    ...[each.taken, each.cooling, each.excluded, each.size],
  ])
  const heading = ['RANGE', 'NETWORK', 'OVERLAY', 'FREE', 'TAKEN', 'COOLING', 'EXCLUDED', 'ALL']
  const lines = findings.map(each => printable(`${each.text}${outcome(each)}`))
  return [table(heading, rows), '', ...(lines.length === 0 ? ['all agrees'] : lines)].join('\n')
}

function outcome({ repairable, repair }: Finding): string {
  if (repair === undefined) return repairable ? ' (--repair mends it)' : ''
  return repair === 'done' ? ': mended' : `: not mended: ${repair}`
}

function time(ms: number): string {
  return new Date(ms).toISOString()
}
