/** VERSION, versions that are not spoken, and no command at all (contract 4, 5, 6, 8). */

import { type Answer, refused, succeeded, told } from '../answer.ts'
import type { Case } from '../case.ts'
import { Failed } from '../failed.ts'
import { SPEC_VERSIONS } from '../versions.ts'

/** Throws unless it is an answer to VERSION; gives its list. */
function versionsIn(answer: Answer, where = ''): string[] {
  succeeded(answer, where)
  const listed = answer.document?.['supportedVersions']
  if (!Array.isArray(listed) || listed.length === 0) {
    throw new Failed(`${where}VERSION answered without supportedVersions`)
  }
  return listed.map(String)
}

/** A case that VERSION answers with a list, called with `env` and `stdin`. */
function answers(
  id: string,
  name: string,
  stdin: string | null,
  env: Record<string, string> = {},
): Case {
  return {
    ...{ id, name, runs: 'once' },
    run: async context => {
      const variables = { CNI_COMMAND: 'VERSION', ...env }
      const answer = await context.call('VERSION', undefined, { bare: true, env: variables, stdin })
      return `${versionsIn(answer).length} versions`
    },
  }
}

export const version: readonly Case[] = [
  {
    id: '06-version-with-only-its-version',
    name: 'VERSION needs nothing but cniVersion on stdin, and lists that version',
    runs: 'each',
    run: async context => {
      const { version } = context
      const answer = await context.call('VERSION', undefined, {
        stdin: JSON.stringify({ cniVersion: version }),
      })
      const listed = versionsIn(answer)
      if (!listed.includes(version)) throw new Failed(`it lists ${listed.join(', ')}`)
      return listed.join(', ')
    },
  },
  {
    id: '05-version-echoed',
    name: 'the answer to VERSION has the cniVersion of stdin',
    runs: 'each',
    run: async context => {
      const { version } = context
      const answer = await context.call('VERSION', undefined, {
        stdin: JSON.stringify({ cniVersion: version }),
      })
      versionsIn(answer)
      const answered = answer.document!['cniVersion']
      if (answered !== version) throw new Failed(`asked in ${version}, it answered in ${answered}`)
      return `answered in ${version}`
    },
  },
  answers('06-version-empty-stdin', 'VERSION works with an empty stdin', ''),
  answers('06-version-null-stdin', 'VERSION works with stdin from /dev/null', null),
  answers('06-version-blank-stdin', 'VERSION works with white space on stdin', ' \n'),
  answers('06-version-other-variables', 'other variables do not matter to VERSION', '', {
    CNI_CONTAINERID: '/',
    CNI_IFNAME: '/',
    CNI_NETNS: 'nowhere',
  }),
  {
    id: '06-version-configuration',
    name: 'VERSION works with the whole configuration on stdin',
    runs: 'each',
    run: async context => `${versionsIn(await context.call('VERSION')).length} versions`,
  },
  {
    id: '06-version-list',
    name: 'each version that is listed is one, and is listed once',
    runs: 'once',
    run: async context => {
      const listed = versionsIn(await context.call('VERSION'))
      const odd = listed.filter(each => !/^\d+\.\d+\.\d+$/.test(each))
      if (odd.length > 0) throw new Failed(`it lists ${odd.join(', ')}`)
      if (new Set(listed).size < listed.length) throw new Failed(`it lists ${listed.join(', ')}`)
      return listed.join(', ')
    },
  },
  {
    id: '06-no-command',
    name: 'without CNI_COMMAND: a line about itself on stderr, nothing on stdout, exit code 0',
    runs: 'once',
    run: async context => {
      const answer = await context.call('(no command)', undefined, { bare: true, stdin: '' })
      succeeded(answer)
      if (answer.stdout !== '') throw new Failed('it wrote to stdout')
      if (answer.stderr.trim() === '') throw new Failed('it says nothing on stderr')
      return answer.stderr.trim()
    },
  },
  {
    id: '05-unlisted-version',
    name: 'ADD in a version that is not listed is refused with code 1',
    runs: 'unlisted',
    run: async context => {
      const answer = await context.call('ADD', await context.pod())
      refused(answer, [1])
      return told(answer)
    },
  },
  {
    id: '05-unknown-version',
    name: 'ADD in a version that does not exist is refused with code 1',
    runs: 'once',
    run: async context => {
      const pod = await context.pod()
      const answers = []
      for (const cniVersion of ['9.9.9', '1', 'latest']) {
        const answer = await context.call('ADD', pod, { config: { cniVersion } })
        refused(answer, [1], `${cniVersion}: `)
        answers.push(answer)
      }
      return told(answers[0]!)
    },
  },
  {
    id: '05-version-no-string',
    name: 'a cniVersion that is no string is refused',
    runs: 'once',
    run: async context => {
      const pod = await context.pod()
      const answer = await context.call('ADD', pod, { config: { cniVersion: 1.1 } })
      refused(answer, [1, 6, 7])
      return told(answer)
    },
  },
  ...(['CHECK', 'STATUS', 'GC'] as const).map(
    (verb): Case => ({
      id: `05-${verb.toLowerCase()}-too-early`,
      name: `${verb} in a version that lacks it is refused`,
      runs: 'each',
      until: verb === 'CHECK' ? '0.3.1' : '1.0.0',
      run: async context => {
        const pod = verb === 'CHECK' ? await context.pod() : undefined
        const answer = await context.call(verb, pod)
        refused(answer)
        return told(answer)
      },
    }),
  ),
  {
    id: '08-conflist-versions',
    name: 'the conflist names no version that the plugin lacks',
    runs: 'once',
    run: async context => {
      const listed = versionsIn(await context.call('VERSION'))
      const { conflistVersions } = context.subject
      const lacking = conflistVersions.filter(each => !listed.includes(each))
      if (lacking.length > 0) throw new Failed(`the plugin does not list ${lacking.join(', ')}`)
      return conflistVersions.join(', ')
    },
  },
  {
    id: '04-unknown-command',
    name: 'a CNI_COMMAND that is no verb is refused with code 4',
    runs: 'each',
    run: async context => {
      const pod = await context.pod()
      for (const verb of ['add', 'UPDATE', ' ADD', 'ADD ']) {
        refused(await context.call(verb, pod), [4], `${JSON.stringify(verb)}: `)
      }
      return 'code 4 for add, UPDATE, and ADD with a space before or behind it'
    },
  },
  {
    id: '06-version-newer-runtime',
    name: 'a runtime that asks in a version of the future gets the list, or code 1',
    runs: 'once',
    run: async context => {
      const stdin = JSON.stringify({ cniVersion: '9.9.9' })
      const answer = await context.call('VERSION', undefined, { stdin })
      if (answer.code !== 0) refused(answer, [1])
      else if (!versionsIn(answer).some(each => SPEC_VERSIONS.includes(each as never))) {
        throw new Failed('it lists no version of the specification')
      }
      return told(answer)
    },
  },
]
