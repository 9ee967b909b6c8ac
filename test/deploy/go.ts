/** Helm, and validate.go with what the API server itself validates by, built with Go where there is one. */
import { copyFileSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { go, prebuilt } from '../harness/prebuilt.ts'

const FLAGS = ['-trimpath', '-ldflags=-s -w']
const HELM = 'helm.sh/helm/v3/cmd/helm@v3.19.5'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const modules = ['go.mod', 'go.sum'].map(name => here(`../kubernetes/${name}`))

/** Path of Helm. */
export function helm(): Promise<string> {
  return prebuilt('helm', [HELM], place => go(place, ['install', ...FLAGS, HELM]))
}

/** Path of validate.go's program. */
export function validator(): Promise<string> {
  const sources = [...modules, here('validate.go')]
  const texts = sources.map(each => readFileSync(each, 'utf8'))
  return prebuilt('validate', texts, place => {
    for (const each of sources) copyFileSync(each, join(place, basename(each)))
    return go(place, ['build', ...FLAGS, '-o', 'validate', 'validate.go'])
  })
}
