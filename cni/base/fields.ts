/** Fields that several sections of the daemon's configuration have. */
import { isAbsolute } from 'node:path'
import { z } from 'zod'
import { clean } from './document.ts'

/** An absolute path. */
export const path = z
  .string()
  .max(4095)
  .refine(isAbsolute, { error: issue => `${clean(issue.input)}: not an absolute path` })
  .refine(text => !text.includes('\0'), { error: 'holds a zero byte' })

/** A path of a file: absolute, or from the folder of the configuration file. Or a name, of a FIB. */
export const file = z
  .string()
  .min(1, { error: 'empty' })
  .max(4095)
  .refine(text => !text.includes('\0'), { error: 'holds a zero byte' })
