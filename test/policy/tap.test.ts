/** The truth tables with pods behind the node's TAP, and the kernel's vxlan device between the nodes. */
import { truthTables } from './traffic.ts'

truthTables('tap', 'vxlan')
