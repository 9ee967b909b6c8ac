/** The kubelet, built from the Go module k8s.io/kubernetes as go.mod and go.sum here pin it. */
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { go, prebuilt } from '../harness/prebuilt.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const MODULE = ['go.mod', 'go.sum']

/** Path of the kubelet; built when there is none of these sources. Throws with the compiler's words. */
export function kubelet(): Promise<string> {
  const texts = MODULE.map(name => readFileSync(join(here, name), 'utf8'))
  return prebuilt('kubelet', texts, place => {
    for (const name of MODULE) copyFileSync(join(here, name), join(place, name))
    const flags = ['-trimpath', '-ldflags=-s -w', '-o', 'kubelet']
    return go(place, ['build', ...flags, 'k8s.io/kubernetes/cmd/kubelet'])
  })
}
