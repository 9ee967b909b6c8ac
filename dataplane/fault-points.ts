/**
 * Places at which a tester can have the process die, or a step fail, to see what the next start and
 * the undoing make of it (cni/INTERNALS.md, "Fault points"). The engine's own are here; those of what
 * lies above are in a list of its own there, on this mechanism.
 *
 * They are armed in order, before anything runs: each once, the next when the one before was reached. A
 * point that is not armed costs one comparison, and none lies on the packet path.
 */

/** The engine's points, and how far things are there. */
export const ENGINE_POINTS = {
  'attach.device': "the pod's interface is there, without addresses",
  'attach.configured': 'it has addresses and routes; no worker serves it',
  'attach.served': 'workers serve it; no route leads to it',
  'attach.routed': 'routes to the pod are in force',
  'detach.unrouted': 'no route leads to the pod any more; workers serve it',
  'detach.closing': 'workers have let go of it; the interface is there',
  'detach.removed': 'the interface is gone; its frames are not taken back',
} as const

export type EnginePoint = keyof typeof ENGINE_POINTS

export const FAULT_ACTIONS = ['kill', 'throw'] as const
/** `kill`: the process ends by SIGKILL, there and then. `throw`: the step fails. */
export type FaultAction = (typeof FAULT_ACTIONS)[number]

export interface Fault {
  point: string
  action: FaultAction
}

let armed: Fault | undefined
let later: readonly Fault[] = []

/** Arms the points, one behind the other. For the whole process. */
export function armFaults([first, ...others]: readonly Fault[]): void {
  armed = first
  later = others
}

/** Things are as far as ENGINE_POINTS says. */
export function faultPoint(point: EnginePoint): void {
  if (armed !== undefined) reach(point)
}

/** As `faultPoint`, for the points of what lies above the engine. Throws when that is armed. */
export function reach(point: string): void {
  if (armed?.point !== point) return
  const { action } = armed
  armFaults(later)
  if (action === 'kill') process.kill(process.pid, 'SIGKILL')
  throw new Error(`fault point ${point} was reached`)
}
