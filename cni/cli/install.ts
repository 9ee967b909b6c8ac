/** `hawser install` and `hawser uninstall`: their options, and what they print. */
import { resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { DEFAULT_HOST_DEVICE } from '../../dataplane/limits.ts'
import { printable } from '../base/table.ts'
import { DEFAULT_SOCKET, DEFAULT_STATE, loadConfig } from '../daemon/config.ts'
import { DEFAULT_WAIT_S, install } from '../install/install.ts'
import {
  DEFAULT_BIN_DIR,
  DEFAULT_CONF_DIR,
  DEFAULT_CONFLIST,
  PACKAGED_CONFLIST,
} from '../install/place.ts'
import { uninstall } from '../install/uninstall.ts'

/** Longest `--wait`, in seconds. */
const MAX_WAIT_S = 3_600

interface InstallFlags {
  binDir: string
  confDir: string
  conflist: string
  socket?: string
  wait?: number | true
  only?: 'executable' | 'conflist'
}

interface UninstallFlags {
  binDir: string
  confDir: string
  config?: string
  socket?: string
  state?: string
  hostDevice?: string
  purge?: boolean
  force?: boolean
  dryRun?: boolean
}

/** Adds both commands to `program`. */
export function addInstall(program: Command): void {
  const folders = (command: Command): Command =>
    command
      .option('--bin-dir <folder>', "the runtime's folder of plugins", DEFAULT_BIN_DIR)
      .option('--conf-dir <folder>', "the runtime's folder of configurations", DEFAULT_CONF_DIR)

  folders(program.command('install'))
    .description('install the CNI executable and the network configuration on this node')
    .option('--conflist <file>', 'network configuration list', DEFAULT_CONFLIST)
    .option('--socket <path>', "the daemon's unix socket (default: the one in the list)")
    .option('--wait [s]', `wait until the daemon serves (default: ${DEFAULT_WAIT_S} s)`, secondsOf)
    .addOption(
      new Option('--only <what>', 'install this one only; the executable needs no daemon').choices([
        'executable',
        'conflist',
      ]),
    )
    .action(runInstall)

  folders(program.command('uninstall'))
    .description('remove from this node what hawser has installed and left')
    .option('--config <file>', "the daemon's configuration file")
    .option('--socket <path>', `the daemon's unix socket (default: ${DEFAULT_SOCKET})`)
    .option('--state <path>', `the daemon's state file (default: ${DEFAULT_STATE})`)
    .option('--host-device <name>', `the node's own port (default: ${DEFAULT_HOST_DEVICE})`)
    .option('--purge', 'also remove queued DELs and the state file')
    .option('--force', 'also while pods are attached; they lose their network')
    .option('--dry-run', 'only print what would be removed')
    .action(runUninstall)
}

async function runInstall(flags: InstallFlags): Promise<void> {
  expectRoot()
  const { binDir, confDir, conflist, socket, wait, only } = flags
  await install({
    binDir,
    confDir,
    conflist: conflist === DEFAULT_CONFLIST ? PACKAGED_CONFLIST : resolve(conflist),
    ...(socket === undefined ? {} : { socket }),
    waitS: wait === true ? DEFAULT_WAIT_S : (wait ?? 0),
    ...(only === undefined ? {} : { only }),
    tell,
  })
}

async function runUninstall(flags: UninstallFlags): Promise<void> {
  expectRoot()
  const { binDir, confDir, config, socket, state, hostDevice } = flags
  // Which node this is does not matter, and a host's name need not be a node's.
  const known = config === undefined ? undefined : loadConfig({ config, node: 'any' })
  await uninstall({
    binDir,
    confDir,
    socket: socket === undefined ? (known?.socket ?? DEFAULT_SOCKET) : resolve(socket),
    state: state === undefined ? (known?.state ?? DEFAULT_STATE) : resolve(state),
    hostDevice: hostDevice ?? known?.dataplane.hostDevice ?? DEFAULT_HOST_DEVICE,
    purge: flags.purge ?? false,
    force: flags.force ?? false,
    dryRun: flags.dryRun ?? false,
    tell,
  })
}

function expectRoot(): void {
  if (process.geteuid?.() !== 0) throw new Error('only root can do that (run as root)')
}

function tell(line: string): void {
  process.stdout.write(`${printable(line)}\n`)
}

function secondsOf(text: string): number {
  if (/^[0-9]{1,4}$/.test(text) && Number(text) <= MAX_WAIT_S) return Number(text)
  throw new InvalidArgumentError(`not 0 .. ${MAX_WAIT_S}`)
}
