/** Rules that choose a routing table by source: RTM_NEWRULE, RTM_DELRULE (linux/fib_rules.h). */
import { ipBytes } from '../addresses.ts'
import { addressFamily } from './bytes.ts'
import { MessageBuilder, NLM_F_CREATE, NLM_F_EXCL } from './message.ts'
import type { Netlink } from './socket.ts'

const RTM_NEWRULE = 32
const RTM_DELRULE = 33
const FRA_SRC = 2
const FRA_PRIORITY = 6
const FRA_TABLE = 15
const FR_ACT_TO_TBL = 1

/** What comes from `source` is routed by `table`. */
export interface SourceRule {
  /** A single address. */
  source: string
  table: number
  /** The lowest is asked first; the main table has 32766. */
  priority: number
}

/** EEXIST if it is there. */
export function addSourceRule(nl: Netlink, rule: SourceRule): void {
  const message = ruleMessage(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule)
  nl.request(message, () => `add rule from ${rule.source} to table ${rule.table}`)
}

/** Whatever its table is. ENOENT if it is not there. */
export function deleteSourceRule(nl: Netlink, rule: Omit<SourceRule, 'table'>): void {
  const message = ruleMessage(RTM_DELRULE, 0, rule)
  nl.request(message, () => `delete rule from ${rule.source}`)
}

/** struct fib_rule_hdr { family, dst_len, src_len, tos, table, res1, res2, action u8, flags u32 } */
function ruleMessage(
  type: number,
  flags: number,
  { source, table, priority }: Omit<SourceRule, 'table'> & { table?: number },
): MessageBuilder {
  const bytes = ipBytes(source)
  const message = new MessageBuilder(type, flags)
  message
    .u8(addressFamily(bytes.length === 4 ? 4 : 6))
    .u8(0)
    .u8(bytes.length * 8)
    .u8(0)
  // A table beyond 255 stands in its attribute only.
  message.u8(0).u8(0).u8(0).u8(FR_ACT_TO_TBL).u32(0)
  message.attribute(FRA_SRC, bytes)
  message.attributeU32(FRA_PRIORITY, priority)
  if (table !== undefined) message.attributeU32(FRA_TABLE, table)
  return message
}
