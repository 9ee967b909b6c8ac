/** `hawser policy`: what policies in a folder mean, before anybody applies them. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { LearnedName } from '../../dataplane/control.ts'
import { readBounded } from '../base/document.ts'
import { parseManifests } from '../base/manifests.ts'
import { printable, table } from '../base/table.ts'
import { DEFAULT_SOCKET, loadConfig } from '../daemon/config.ts'
import type { RuleCount } from '../enforce/told.ts'
import { whatIf } from '../enforce/what-if.ts'
import { readExpectations, tryExpectations } from '../policy/expectations.ts'
import {
  EXPLAINED_PROTOCOLS,
  type ExplainedProtocol,
  type Explanation,
  type Flow,
} from '../policy/explain.ts'
import { readPolicies, remarkText } from '../policy/files.ts'
import type { RemarkedNode } from '../policy/remarks.ts'
import { query } from '../rpc/client.ts'

/** Where a name leads of which nobody says it: an address that is in no network but those of all. */
const ANYWHERE = '0.0.0.0'

type ExplainFlags = Omit<Flow, 'to'> & {
  policies?: string
  with?: readonly string[]
  socket: string
  json?: boolean
  to?: string
}

/** Adds the command and what stands below it. */
export function addPolicy(program: Command): void {
  const policy = program
    .command('policy')
    .description('what network policies mean, before a daemon enforces them')
  policy
    .command('check')
    .description('read a folder of manifests; exits with 1 when one can not be used')
    .argument('<folder>', 'policies, namespaces, pods and nodes, as kubectl prints them')
    .option('--config <file>', "the daemon's configuration, for what depends on it")
    .action((folder: string, { config }: { config?: string }) => {
      print(checkFolder(folder, config === undefined ? {} : nodeOf(config)).map(printable))
    })
  policy
    .command('explain')
    .description('which rule of which policy decides about a new flow, at both ends')
    .option('--policies <folder>', 'as for check; without it the running daemon is asked')
    .option(
      '--with <files...>',
      'with these manifests, which are not in force; nothing is enforced',
    )
    .option('--socket <path>', "the daemon's unix socket", DEFAULT_SOCKET)
    .requiredOption('--from <end>', 'namespace/pod, or an address')
    .option('--to <end>', 'namespace/pod, an address, node or node/NAME')
    .option('--to-name <name>', 'domain name that the sender has asked for it')
    .option('--port <n>', 'port of the receiver', port, 0)
    .addOption(protocolOption())
    .option('--json', 'print the answer as JSON')
    .action(async ({ json, to, ...flags }: ExplainFlags) => {
      if (to === undefined && flags.toName === undefined) {
        throw new InvalidArgumentError('explain needs --to or --to-name')
      }
      const explanation = await explained({ ...flags, to: to ?? ANYWHERE })
      print(json ? [JSON.stringify(explanation, null, 2)] : showExplanation(explanation))
    })
  addRules(policy)
  addNames(policy)
  policy
    .command('test')
    .description('try a file of expectations; exits with 1 when one is not met')
    .requiredOption('--policies <folder>', 'as for check')
    .argument('<file>', 'expectations: [{ from, to, port, protocol, allowed }]')
    .action((file: string, flags: { policies: string }) => {
      const { world } = readPolicies(flags.policies)
      const outcomes = tryExpectations(world, readExpectations(file))
      const unmet = outcomes.filter(({ met }) => !met)
      const lines = unmet.flatMap(({ expectation, explanation }) => {
        const { from, to, port: number, protocol, allowed } = expectation
        const what = `${from} to ${to} ${protocol} ${number}: expected ${word(allowed)}`
        return [printable(what), ...showExplanation(explanation).map(line => `  ${line}`)]
      })
      print([...lines, `${outcomes.length - unmet.length} met, ${unmet.length} not met`])
      if (unmet.length > 0) process.exitCode = 1
    })
}

/** By a folder; else by a running daemon: its tables, or with more files what its policies would come to. */
async function explained({
  policies,
  with: files = [],
  socket,
  ...flow
}: ExplainFlags & Flow): Promise<Explanation> {
  const { from, to, port, protocol, toName } = flow
  const asked = { from, to, port, protocol, ...(toName === undefined ? {} : { toName }) }
  const more = files.flatMap(file => parseManifests(file, readBounded(file)))
  if (policies !== undefined) {
    const { objects } = readPolicies(policies)
    return whatIf({ objects, own: [] }, more).explain(asked)
  }
  if (more.length > 0) return whatIf(await query(socket, 'policy known'), more).explain(asked)
  return (await query(socket, `policy explain ${JSON.stringify(asked)}`)) as Explanation
}

/** The rules that have decided something, in a daemon's words. */
export function showRules(rules: readonly RuleCount[]): string {
  if (rules.length === 0) return 'no rule has decided anything yet'
  return table(
    ['COUNT', 'RULE'],
    rules.map(({ count, rule }) => [count, rule]),
  )
}

/** What pods have learned, in a daemon's words. */
export function showNames(names: readonly LearnedName[]): string {
  if (names.length === 0) return 'no pod has learned a name'
  return table(
    ['POD', 'NAME', 'ADDRESS', 'SECONDS'],
    names.map(({ pod, name, address, seconds }) => [pod, name, address, seconds]),
  )
}

/** Remarks on the policies of a folder, for a node as far as it is known, and how many there are. Throws DocumentError. */
export function checkFolder(folder: string, on: RemarkedNode = {}): string[] {
  const { world, remarks } = readPolicies(folder, on)
  const { policies, namespaces, pods } = world
  const counted = `${policies.length} policies, ${namespaces.length} namespaces, ${pods.length} pods`
  return [...remarks.map(remarkText), counted]
}

function nodeOf(config: string): RemarkedNode {
  const { resolvers = [] } = loadConfig({ config }).dataplane.policy ?? {}
  return { resolvers: resolvers.length > 0 }
}

function addNames(policy: Command): void {
  policy
    .command('names')
    .description('domain names that pods have asked for, and where rules about them let them go')
    .option('--socket <path>', "the daemon's unix socket", DEFAULT_SOCKET)
    .option('--json', 'print the answer as JSON')
    .action(async ({ socket, json }: { socket: string; json?: boolean }) => {
      const names = (await query(socket, 'policy names')) as LearnedName[]
      print([json ? JSON.stringify(names, null, 2) : showNames(names)])
    })
}

function addRules(policy: Command): void {
  policy
    .command('rules')
    .description(
      'rules in force that have decided something: new flows, and packets that were denied',
    )
    .option('--socket <path>', "the daemon's unix socket", DEFAULT_SOCKET)
    .option('--json', 'print the answer as JSON')
    .action(async ({ socket, json }: { socket: string; json?: boolean }) => {
      const rules = (await query(socket, 'policy rules')) as RuleCount[]
      print([json ? JSON.stringify(rules, null, 2) : showRules(rules)])
    })
}

function protocolOption(): Option {
  return new Option('--protocol <name>', 'of the flow')
    .choices(EXPLAINED_PROTOCOLS.map(name => name.toLowerCase()))
    .default('TCP', 'tcp')
    .argParser((text: string): ExplainedProtocol => {
      const found = EXPLAINED_PROTOCOLS.find(name => name === text.toUpperCase())
      if (found === undefined) throw new InvalidArgumentError(EXPLAINED_PROTOCOLS.join(', '))
      return found
    })
}

function port(text: string): number {
  const number = /^[0-9]{1,5}$/.test(text) ? Number(text) : -1
  if (number < 0 || number > 65_535) throw new InvalidArgumentError('not a port (0 .. 65535)')
  return number
}

const word = (allowed: boolean): string => (allowed ? 'allowed' : 'denied')

/** A line for the flow, and one for each end that is a pod. */
export function showExplanation({ allowed, ends }: Explanation): string[] {
  return [
    word(allowed),
    ...ends.map(({ direction, pod, allowed: end, by, why, enforced }) => {
      const said = by === undefined ? `: ${why}` : ` by ${by}`
      const how = enforced === true ? ' (enforced)' : ''
      return printable(`${direction} of ${pod}: ${word(end)}${said}${how}`)
    }),
  ]
}

function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`)
}
