/** What names an attachment, and what is kept of a plugin's call for it. */

export interface AttachmentKey {
  network: string
  containerId: string
  ifname: string
}

/** The attachment's id in the packet engine; no part can hold a slash. */
export function attachmentId(key: AttachmentKey): string {
  return `${key.network}/${key.containerId}/${key.ifname}`
}

/** What an IPAM plugin was asked for addresses with; its DEL is called with the same. */
export interface Delegation {
  /** Name of the plugin. */
  type: string
  netns: string
  /** CNI_ARGS and CNI_PATH. */
  args: string
  path: string
  /** The network configuration, as the runtime sent it. */
  config: string
  /** Milliseconds since 1970. */
  created: number
}
