/** `hawser policy`: what policies in a folder mean, before anybody applies them. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { printable, table } from '../base/table.ts'
import { DEFAULT_SOCKET } from '../daemon/config.ts'
import type { RuleCount } from '../enforce/told.ts'
import { readExpectations, tryExpectations } from '../policy/expectations.ts'
import {
  EXPLAINED_PROTOCOLS,
  type ExplainedProtocol,
  Explainer,
  type Explanation,
  type Flow,
} from '../policy/explain.ts'
import { readPolicies, remarkText } from '../policy/files.ts'
import { query } from '../rpc/client.ts'

/** Adds the command and what stands below it. */
export function addPolicy(program: Command): void {
  const policy = program
    .command('policy')
    .description('what network policies mean, before a daemon enforces them')
  policy
    .command('check')
    .description('read a folder of manifests; exits with 1 when one can not be used')
    .argument('<folder>', 'policies, namespaces, pods and nodes, as kubectl prints them')
    .action((folder: string) => {
      print(checkFolder(folder).map(line => printable(line)))
    })
  policy
    .command('explain')
    .description('which rule of which policy decides about a new flow, at both ends')
    .requiredOption('--policies <folder>', 'as for check')
    .requiredOption('--from <end>', 'namespace/pod, or an address')
    .requiredOption('--to <end>', 'namespace/pod, or an address')
    .option('--port <n>', 'port of the receiver', port, 0)
    .addOption(protocolOption())
    .option('--json', 'print the answer as JSON')
    .action((flags: { policies: string; json?: boolean } & Flow) => {
      const { world } = readPolicies(flags.policies)
      const explanation = new Explainer(world).explain(flags)
      print(flags.json ? [JSON.stringify(explanation, null, 2)] : showExplanation(explanation))
    })
  addRules(policy)
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

/** The rules that have decided something, in a daemon's words. */
export function showRules(rules: readonly RuleCount[]): string {
  if (rules.length === 0) return 'no rule has decided anything yet'
  return table(
    ['COUNT', 'RULE'],
    rules.map(({ count, rule }) => [count, rule]),
  )
}

/** Remarks on the policies of a folder, and how many there are. Throws DocumentError. */
export function checkFolder(folder: string): string[] {
  const { world, remarks } = readPolicies(folder)
  const { policies, namespaces, pods } = world
  const counted = `${policies.length} policies, ${namespaces.length} namespaces, ${pods.length} pods`
  return [...remarks.map(remarkText), counted]
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
    ...ends.map(({ direction, pod, allowed: end, by, why }) => {
      const said = by === undefined ? `: ${why}` : ` by ${by}`
      return printable(`${direction} of ${pod}: ${word(end)}${said}`)
    }),
  ]
}

function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`)
}
