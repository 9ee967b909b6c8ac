/** The daemon's log: one JSON record a line on stderr (stdout of a CNI chain is the result's). */
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino'
import { z } from 'zod'
import type { DataplaneOptions } from '../../dataplane/control.ts'

export type { Logger } from 'pino'

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** `log` of the daemon's configuration. */
export const logSection = z.strictObject({ level: z.enum(LOG_LEVELS).optional() })

/** Written synchronously, so that the last words of a dying process are not lost. */
export function createLogger(level: LogLevel, node: string, to?: DestinationStream): Logger {
  return pino(
    {
      level,
      base: { name: 'hawser', node, pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
    },
    to ?? destination({ fd: 2, sync: true }),
  )
}

/** What the packet engine takes as `log`. */
export function engineLog(log: Logger): NonNullable<DataplaneOptions['log']> {
  return (level, message, facts) => log[level](facts ?? {}, message)
}
