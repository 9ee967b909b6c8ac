/** `metrics` of the daemon's configuration. */
import { z } from 'zod'
import { clean } from '../base/document.ts'
import { listenAddress } from '../base/listen.ts'

export const metricsSection = z.strictObject({
  listen: z.string().refine(text => listenAddress(text) !== undefined, {
    error: issue =>
      `${clean(issue.input)}: not an address with a port, such as 127.0.0.1:9473 or [::1]:9473`,
  }),
})
