/**
 * What others may ask the kernel about interfaces that the engine has made, and how they are known: for
 * programs that check them, clean up after them, or find out what is there without a running engine.
 */
export { readFurther } from './devices/further.ts'
export { leadsToTap, vethNames } from './devices/veth.ts'
export { isOurVxlan } from './devices/vxlan.ts'
export { listAddresses } from './netlink/address.ts'
export { ALIAS_BYTES, deleteLink, getLink, type Link, listLinks } from './netlink/link.ts'
export { namespaceId } from './netlink/nsid.ts'
export { Netlink } from './netlink/socket.ts'
export { forwardRules } from './nft/forward.ts'
