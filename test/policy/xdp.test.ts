/** The truth tables with pods by AF_XDP. */
import { truthTables } from './traffic.ts'

truthTables('xdp')
