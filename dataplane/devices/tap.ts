/** The node's TAP: one device for all pods of kind `tap` and for the kernel's vxlan device (ports/trunk.ts). */
import { native } from '../../native/native.ts'
import { TAP_QUEUE_LENGTH } from '../limits.ts'
import { getLink, setLink } from '../netlink/link.ts'
import { Netlink } from '../netlink/socket.ts'
import { setOffloads, type TunDevice } from './tun.ts'
import { quiet } from './veth.ts'

/**
 * Opens `queues` queues of the persistent TAP `name` in the node's namespace, made if it is not there; it is
 * down until `startTap`. Throws with cause and remedy.
 */
export function openTap(name: string, queues: number): TunDevice {
  const nl = new Netlink('')
  try {
    // Others' frames that wait there must not be taken for ours: it comes up when our programs are attached.
    const there = getLink(nl, name)
    if (there?.kind === 'tun') setLink(nl, there.index, { up: false })
    const fds = native.tunOpen('', name, queues, true, true)
    try {
      return setOffloads(nl, name, fds)
    } catch (error) {
      for (const fd of fds) native.close(fd)
      throw error
    }
  } finally {
    nl.close()
  }
}

/** Sets the TAP up; the node's own stack does not speak on it. Returns what was wrong with it, in words. */
export function startTap(ifindex: number, name: string): string[] {
  const nl = new Netlink('')
  try {
    const link = getLink(nl, ifindex)
    if (link === undefined) throw new Error(`TAP ${name}: it is gone`)
    const wrong: string[] = []
    if (link.name !== name) {
      // Kernels before 6.2 rename no device that is up.
      setLink(nl, ifindex, { up: false })
      setLink(nl, ifindex, { name })
      wrong.push(`it was called ${link.name}`)
    }
    if (quiet(name)) wrong.push('the node spoke on it')
    if (link.txQueueLength !== TAP_QUEUE_LENGTH) {
      wrong.push(`its queue had room for ${link.txQueueLength} frames`)
    }
    if (!link.up) wrong.push('it was down')
    if (wrong.length > 0) setLink(nl, ifindex, { txQueueLength: TAP_QUEUE_LENGTH, up: true })
    return wrong
  } finally {
    nl.close()
  }
}
