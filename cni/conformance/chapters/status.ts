/** STATUS: whether an ADD would be served (contract 2, 19). */
import { succeeded } from '../answer.ts'
import type { Case } from '../case.ts'

export const status: readonly Case[] = [
  {
    id: '19-status-good',
    name: 'STATUS succeeds when ADDs do',
    runs: 'each',
    since: '1.1.0',
    run: async context => {
      succeeded(await context.call('STATUS'))
      await context.del(await context.add())
      return 'it succeeded, and so did an ADD'
    },
  },
  {
    id: '02-status-bare',
    name: 'STATUS needs no variable but CNI_COMMAND',
    runs: 'each',
    since: '1.1.0',
    run: async context => {
      const env = { CNI_COMMAND: 'STATUS', CNI_PATH: context.subject.cniPath.join(':') }
      succeeded(await context.call('STATUS', undefined, { bare: true, env }))
      return 'it succeeded'
    },
  },
  {
    id: '19-status-with-pods',
    name: 'STATUS succeeds with pods attached',
    runs: 'each',
    since: '1.1.0',
    run: async context => {
      const attached = await context.add()
      succeeded(await context.call('STATUS'))
      await context.del(attached)
      return 'it succeeded'
    },
  },
]
