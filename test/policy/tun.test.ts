/** The truth tables with pods by TUN. */
import { truthTables } from './traffic.ts'

truthTables('tun')
