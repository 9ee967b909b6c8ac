import { mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Manifest, ManifestFolder } from '../../../cni/base/manifests.ts'

let folder = ''
let read: () => Manifest[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-manifests-'))
  const manifests = new ManifestFolder(folder)
  read = () => manifests.read()
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const put = (name: string, text: string) => writeFileSync(join(folder, name), text)
const names = () => read().map(({ object }) => (object as { name: string }).name)

test('of files that say the same the objects are those of before', () => {
  put('a.yaml', 'kind: A\nname: one\n---\nkind: A\nname: two\n')
  put('b.json', '{"kind": "AList", "items": [{"name": "three"}]}')
  const before = read()
  expect(names()).toEqual(['one', 'two', 'three'])
  expect(read().map((each, i) => each === before[i])).toEqual([true, true, true])
  put('b.json', '{"kind": "AList", "items": [{"name": "other"}]}')
  const after = read()
  expect(after.map((each, i) => each === before[i])).toEqual([true, true, false])
  expect(names()).toEqual(['one', 'two', 'other'])
})

test('a change is seen that leaves size and time of change by the clock as they were', () => {
  put('a.yaml', 'name: one\n')
  utimesSync(join(folder, 'a.yaml'), 1, 1)
  expect(names()).toEqual(['one'])
  put('.new', 'name: two\n')
  utimesSync(join(folder, '.new'), 1, 1)
  renameSync(join(folder, '.new'), join(folder, 'a.yaml'))
  expect(names()).toEqual(['two'])
  rmSync(join(folder, 'a.yaml'))
  expect(names()).toEqual([])
})

test('lines are known of every object, whenever they are asked for', () => {
  put('a.yaml', 'kind: A\nname: one\n---\nkind: A\nspec:\n  port: 7\n')
  put('b.yaml', 'kind: AList\nitems:\n- name: x\n- name: y\n  port: 1\n')
  const line = (i: number, ...path: string[]): number => read()[i]!.line(path)
  expect([line(0, 'name'), line(1, 'spec', 'port'), line(1, 'spec', 'no')]).toEqual([2, 6, 6])
  expect([line(2, 'name'), line(3, 'port')]).toEqual([3, 5])
})

test('a file that is broken is named, and the next look sees it mended', () => {
  put('a.yaml', 'name: [')
  expect(read).toThrow(/a\.yaml: /)
  put('a.yaml', 'name: one')
  expect(names()).toEqual(['one'])
})
