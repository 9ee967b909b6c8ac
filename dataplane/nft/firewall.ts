/**
 * The forward chains of a node's firewall: of iptables' two kinds, where a rule of ours may stand, and
 * those that somebody has made with nft, which are looked at only.
 *
 * A chain of iptables drops what it does not know when its policy is DROP or a rule without a condition
 * ends every packet: in itself, or in a chain that it jumps to without one (ufw). An accept in a table
 * of our own does not help, since each base chain of a hook decides for itself.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { applyRules, listRules } from './nft.ts'

/** A rule of ours has this comment. */
export const COMMENT = 'hawser'
/** Chains that are followed from one to the next. */
const MAX_DEPTH = 3
/** What else helps where nft is missing. */
const REMEDY = "accept the node's own port in FORWARD"
/** Bytes of a program's answer that are read. */
const MAX_SAID = 4 * 1024 * 1024

export interface Rule {
  /** How it is named for `insert` and `remove`: nft's handle, iptables' number in the chain. */
  at: number
  /** It has no condition and ends every packet, or sends every one to `jump`. */
  ends: boolean
  jump: string | undefined
  /** It accepts what comes from the device, or what goes to it, and is ours. */
  ours: 'from' | 'to' | undefined
}

export interface Firewall {
  /** For people. */
  name: string
  /** The rules of a chain; undefined when it is not there. Throws when the program that knows is missing. */
  list(chain: string): Promise<Rule[] | undefined>
  /** Puts an accept into FORWARD, before a rule if one is given, else at the end. */
  accept(direction: 'from' | 'to', before: Rule | undefined): Promise<void>
  remove(rule: Rule): Promise<void>
}

/** The first of a chain's rules that every packet ends at, seen through chains that it jumps to. */
export async function enderOf(
  firewall: Firewall,
  rules: readonly Rule[],
  depth = 0,
): Promise<Rule | undefined> {
  for (const rule of rules) {
    if (rule.ends) return rule
    if (rule.jump === undefined || depth === MAX_DEPTH) continue
    const inner = await firewall.list(rule.jump)
    if (inner && (await enderOf(firewall, inner, depth + 1)) !== undefined) return rule
  }
  return undefined
}

/** iptables-nft's filter table, spoken to by nft. `word`: `ip` or `ip6`. */
export function nftFirewall(word: 'ip' | 'ip6', device: string): Firewall {
  const table = `${word} filter`
  return {
    name: `${word === 'ip' ? 'iptables' : 'ip6tables'} (nf_tables)`,
    list: async chain => {
      const text = await listRules('firewall', `chain ${table} ${chain}`, ['-a'])
      return text === '' ? undefined : nftRules(text, device)
    },
    accept: async (direction, before) => {
      const match = direction === 'from' ? 'iifname' : 'oifname'
      const rule = `${match} "${device}" counter accept comment "${COMMENT}"`
      const place =
        before === undefined
          ? `add rule ${table} FORWARD`
          : `insert rule ${table} FORWARD position ${before.at}`
      await applyRules('firewall', `${place} ${rule}\n`, REMEDY)
    },
    remove: ({ at }) =>
      applyRules('firewall', `delete rule ${table} FORWARD handle ${at}\n`, REMEDY),
  }
}

/** The rules in nft's listing of a chain with handles. */
export function nftRules(text: string, device: string): Rule[] {
  return text.split('\n').flatMap(line => {
    const [, body, handle] = /^\s+(.*) # handle (\d+)$/.exec(line) ?? []
    if (body === undefined || body.endsWith('{') || body.startsWith('type ')) return []
    const bare = body.replace(/\bcounter packets \d+ bytes \d+\b/, '').replace(/ comment ".*"$/, '')
    const words = bare.trim().replace(/\s+/g, ' ')
    const commented = body.endsWith(`comment "${COMMENT}"`)
    return [
      {
        at: Number(handle),
        ends: /^(drop$|reject\b)/.test(words),
        jump: /^(?:jump|goto) (\S+)$/.exec(words)?.[1],
        ours: commented
          ? direction(words, `iifname "${device}" accept`, `oifname "${device}" accept`)
          : undefined,
      },
    ]
  })
}

/** The kernel's own iptables (xtables) of a family, by the program that speaks to it. */
export function legacyFirewall(family: 4 | 6, device: string): Firewall {
  const program = family === 4 ? 'iptables' : 'ip6tables'
  const tables = (args: readonly string[]) => legacy(program, ['-w', '5', ...args])
  return {
    name: `${program} (legacy)`,
    list: async chain => legacyRules(await tables(['-S', chain]), device),
    accept: async (way, before) => {
      const where = before === undefined ? ['-A', 'FORWARD'] : ['-I', 'FORWARD', String(before.at)]
      const match = [way === 'from' ? '-i' : '-o', device]
      await tables([...where, ...match, '-m', 'comment', '--comment', COMMENT, '-j', 'ACCEPT'])
    },
    remove: async ({ at }) => {
      await tables(['-D', 'FORWARD', String(at)])
    },
  }
}

/** The rules in `iptables -S CHAIN`. */
export function legacyRules(text: string, device: string): Rule[] {
  const rules = text.split('\n').filter(line => line.startsWith('-A '))
  return rules.map((line, k) => {
    const words = line.replace(/^-A \S+ ?/, '').replace(/-m comment --comment ("[^"]*"|\S+) ?/, '')
    const commented = line.includes(`-m comment --comment ${COMMENT} -j`)
    return {
      at: k + 1,
      ends: /^-j (DROP$|REJECT\b)/.test(words),
      jump: /^-[jg] (?!DROP$|REJECT\b|ACCEPT$|RETURN$)(\S+)$/.exec(words)?.[1],
      ours: commented
        ? direction(words, `-i ${device} -j ACCEPT`, `-o ${device} -j ACCEPT`)
        : undefined,
    }
  })
}

function direction(words: string, from: string, to: string): Rule['ours'] {
  return words === from ? 'from' : words === to ? 'to' : undefined
}

/** Whether the kernel has a legacy filter table of a family in this namespace; asking the program would make one. */
export function hasLegacyFilter(family: 4 | 6): boolean {
  try {
    const names = family === 4 ? '/proc/net/ip_tables_names' : '/proc/net/ip6_tables_names'
    return readFileSync(names, 'utf8').split('\n').includes('filter')
  } catch {
    return false
  }
}

/** A base chain of nftables. */
export interface BaseChain {
  family: string
  table: string
  chain: string
  drops: boolean
}

/** The base chains of the forward hook in nft's list of chains. */
export function forwardChains(text: string): BaseChain[] {
  const found: BaseChain[] = []
  let [family, table, chain] = ['', '', '']
  for (const line of text.split('\n')) {
    const outer = /^table (ip|ip6|inet) (\S+) \{/.exec(line)
    if (outer !== null) [, family = '', table = ''] = outer
    else if (line.startsWith('table ')) family = ''
    chain = /^\s+chain (\S+) \{/.exec(line)?.[1] ?? chain
    if (family === '' || !/type filter hook forward /.test(line)) continue
    found.push({ family, table, chain, drops: /policy drop;/.test(line) })
  }
  return found
}

/** Whether the rules of a base chain, without handles, accept something by the name of `device`. */
export function knows(text: string, device: string): boolean {
  return text.split('\n').some(line => line.includes(`"${device}"`) && /\baccept\b/.test(line))
}

/** Of a legacy program and the one without a kind in its name, the one that is legacy here. Throws when there is none. */
async function legacy(program: string, args: readonly string[]): Promise<string> {
  try {
    return await run(`${program}-legacy`, args)
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') throw error
  }
  if (!(await run(program, ['--version'])).includes('legacy')) {
    throw new Error(`${program}-legacy: no such program (install iptables)`)
  }
  return run(program, args)
}

/** What a program prints. Throws with its last words when it fails; `code` is ENOENT when there is none. */
async function run(program: string, args: readonly string[]): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let [out, err] = ['', '']
    child.stdout.on('data', chunk => {
      out = `${out}${chunk}`.slice(0, MAX_SAID)
    })
    child.stderr.on('data', chunk => {
      err = `${err}${chunk}`.slice(0, 1000)
    })
    child.on('error', error => {
      const { code } = error as { code?: string }
      reject(Object.assign(new Error(`${program}: ${error.message} (install it)`), { code }))
    })
    child.on('close', code => {
      if (code === 0) resolve(out)
      else reject(new Error(`${program} ${args.join(' ')} ended with ${code}: ${err.trim()}`))
    })
  })
}
