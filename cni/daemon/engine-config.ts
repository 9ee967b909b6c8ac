/** Keys of the daemon's configuration that go to the packet engine as they are (`DataplaneOptions`). */
import { z } from 'zod'
import { MAX_PEERS, MAX_PORTS, MAX_WORKERS } from '../../dataplane/limits.ts'
import { file } from '../base/fields.ts'

export const UNDERLAY_MODES = ['auto', 'xdp', 'udp', 'vxlan'] as const

/** Linux' rule for names of network devices: 1 .. 15 bytes, not a path, no colon or white space. */
export const device = z.string().regex(/^(?!\.{1,2}$)[!-.0-9;-~]{1,15}$/, {
  error: 'not a device name (1 .. 15 characters, no "/", ":" or white space)',
})

/** Largest number of a CPU (CPU_SETSIZE of sched.h, less one). */
const MAX_CPU = 1023

export const engineKeys = {
  workers: z.int().min(1).max(MAX_WORKERS).optional(),
  cpus: z.array(z.int().min(0).max(MAX_CPU)).max(MAX_WORKERS).optional(),
  busyPoll: z.int().min(0).max(1_000_000).optional(),
  vni: z.int().min(1).max(0xff_ffff).optional(),
  vxlanPort: z.int().min(1).max(0xffff).optional(),
  mtu: z.int().min(1280).max(65_535).optional(),
  masquerade: z.boolean().optional(),
  hostDevice: device.optional(),
  smallFrames: z.int().min(256).max(1_048_576).optional(),
  largeFrames: z.int().min(1).max(16_384).optional(),
  xdpSockets: z.int().min(0).max(MAX_PORTS).optional(),
  peers: z.int().min(1).max(MAX_PEERS).optional(),
  routes: z.int().min(16).max(2_000_000).optional(),
  fib: z.union([file, z.array(file).max(2)]).optional(),
  underlay: z
    .strictObject({ device: device.optional(), mode: z.enum(UNDERLAY_MODES).optional() })
    .optional(),
}
