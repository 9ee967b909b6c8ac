/**
 * The daemon's fault points: every step of ADD, of DEL and of a start, by name. A tester arms one in
 * the environment of the daemon's process, `HAWSER_FAULT=add.reserved:kill`, and the daemon ends
 * there by SIGKILL; with `:throw` the step fails instead, once, and what stands behind a comma is armed.
 * Without the variable they do nothing. Each name says what has been done, and so what a next start, or
 * the undoing, finds.
 */
import {
  armFaults,
  ENGINE_POINTS,
  FAULT_ACTIONS,
  type Fault,
  type FaultAction,
  reach,
} from '../../dataplane/fault-points.ts'

export const FAULT_VARIABLE = 'HAWSER_FAULT'

const DAEMON_POINTS = {
  'add.begun': 'nothing is done',
  'add.asking': "an IPAM plugin's call is on disk; it has not been asked",
  'add.leased': 'the IPAM plugin has given addresses; they are not on disk',
  'add.reserved': 'the addresses are on disk',
  'attach.admitted': "the pod's policy is in force, if there is any; nothing is made of it",
  'add.made': "the engine serves the pod; the node's ports do not lead to it",
  'add.mapped': "the node's ports lead to it; the row says reserved",
  'further.asking': 'the call of a further interface is on disk; its plugins have not been asked',
  'further.made': 'a further interface is made; what its plugins answered is not on disk',
  'add.attached': 'the row says attached',
  'add.answer': 'all is done; the answer is not sent',
  'del.begun': 'nothing is done',
  'further.undone': 'a further interface is undone; its call is on disk',
  'del.unmapped': "the node's ports do not lead to the pod any more",
  'del.detached': 'the engine has let go of it and its interface is gone; the row is there',
  'del.released': 'the row is gone; an IPAM plugin has not got its addresses back',
  'del.returned': 'the IPAM plugin has its addresses back; its call is on disk',
  'del.answer': 'all is done; the answer is not sent',
  'start.aside': 'a damaged state file is set aside; there is none in its place',
  'start.empty': 'a new state file is there; nothing is in it',
  'start.opened': 'the state file is open; nothing is restored',
  'restore.begun': 'an attachment is about to be restored, or its leftovers to be removed',
  'restore.done': 'an attachment is restored, or its leftovers are removed',
  'start.restored': 'all attachments are restored; queued DELs are not done',
  'queue.done': 'a queued DEL is done; its file is there',
  'queue.removed': 'the file of a queued DEL is removed',
  'start.drained': 'queued DELs are done; the socket is not open',
  'start.listening': 'the socket is open; the queue is not looked at a second time',
} as const

export type DaemonPoint = keyof typeof DAEMON_POINTS

export const FAULT_POINTS = { ...DAEMON_POINTS, ...ENGINE_POINTS }
export type FaultPoint = keyof typeof FAULT_POINTS

/** Things are as far as DAEMON_POINTS says. */
export function faultPoint(point: DaemonPoint): void {
  reach(point)
}

/**
 * Arms what `text`, the value of FAULT_VARIABLE, names: `POINT:ACTION`, or several behind commas. Nothing
 * when it is absent or empty. Returns what is armed; throws for what is no point or no action.
 */
export function armFaultPoint(text: string | undefined): string | undefined {
  armFaults([])
  if (text === undefined || text === '') return undefined
  armFaults(text.split(',').map(parseFault))
  return text
}

function parseFault(text: string): Fault {
  const at = text.indexOf(':')
  const [point, action] = at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
  if (!Object.hasOwn(FAULT_POINTS, point)) {
    throw new Error(`${FAULT_VARIABLE}: no such point (cni/base/fault-points.ts has them)`)
  }
  if (!FAULT_ACTIONS.includes(action as FaultAction)) {
    throw new Error(`${FAULT_VARIABLE}: ${point} can do ${FAULT_ACTIONS.join(' or ')}`)
  }
  return { point, action: action as FaultAction }
}
