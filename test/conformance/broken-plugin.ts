/**
 * A plugin that does what plugins get wrong: a script that lists only 1.0.0, logs on stdout, takes
 * whatever it is given, makes no interface, succeeds at CHECK, and fails a DEL without a namespace.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const SCRIPT = `#!${process.execPath}
const fs = require('node:fs')
const { CNI_COMMAND: verb, CNI_NETNS: netns, CNI_IFNAME: name } = process.env
const stdin = fs.readFileSync(0, 'utf8')
const print = document => process.stdout.write(JSON.stringify(document))
const fail = (code, msg) => {
  print({ cniVersion: '1.0.0', code, msg })
  process.exit(1)
}
if (verb === 'VERSION') print({ cniVersion: '1.0.0', supportedVersions: ['1.0.0'] })
else if (verb === 'ADD') {
  let config = {}
  try { config = JSON.parse(stdin) } catch {}
  if (config.cniVersion !== '1.0.0') console.log('level=info msg="another version, never mind"')
  const ips = [{ address: '192.0.2.2/24', interface: 1 }]
  print({ cniVersion: '1.0.0', interfaces: [{ name, sandbox: netns, mtu: 1500 }], ips, dns: {} })
} else if (verb === 'DEL') {
  if (!fs.existsSync(netns ?? '')) fail(999, 'no namespace')
} else if (verb === 'CHECK') {
} else if (verb === 'STATUS') process.exit(3)
else process.kill(process.pid, 'SIGSEGV')
`

/** Writes it and its conflist into `folder`. */
export function brokenPlugin(folder: string): { plugin: string; conflist: string } {
  const plugin = join(folder, 'broken')
  writeFileSync(plugin, SCRIPT, { mode: 0o755 })
  const conflist = join(folder, 'broken.conflist')
  const versions = { cniVersion: '1.0.0', cniVersions: ['1.0.0', '1.1.0'] }
  writeFileSync(
    conflist,
    JSON.stringify({ ...versions, name: 'broken', plugins: [{ type: 'broken' }] }),
  )
  return { plugin, conflist }
}
