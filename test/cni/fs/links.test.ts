/** Links and files of other users, on the way to those of the daemon. */
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { refuseForeignFile, refuseForeignLinks } from '../../../cni/fs/links.ts'
import { NOBODY } from '../plugin/hawser-plugin.ts'

let folder = ''
const at = (name: string) => join(folder, name)
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hawser-links-'))
  mkdirSync(at('real'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

test("links of root's are followed, relative ones and chains of them; what is missing is nobody's", () => {
  symlinkSync('real', at('one'))
  symlinkSync('../one', at('real/two'))
  symlinkSync(at('real/two'), at('three'))
  for (const path of ['real/x', 'one/x', 'three/x', 'one/two/two/x', 'none/at/all', 'real']) {
    expect(() => refuseForeignLinks(at(path)), path).not.toThrow()
  }
})

test('a link of another user is refused, wherever it stands', () => {
  symlinkSync('real', at('theirs'))
  lchownSync(at('theirs'), NOBODY, NOBODY)
  symlinkSync(at('theirs'), at('ours'))
  symlinkSync('../theirs/x', at('real/last'))
  for (const path of ['theirs', 'theirs/x', 'ours/x', 'real/last', 'real/../theirs/x/y/z']) {
    expect(() => refuseForeignLinks(at(path)), path).toThrow(
      `${at('theirs')}: a link of user ${NOBODY}`,
    )
  }
})

test('links that go in a circle are an error, and not an endless way', () => {
  symlinkSync(at('b'), at('a'))
  symlinkSync(at('a'), at('b'))
  expect(() => refuseForeignLinks(at('a/x'))).toThrow(/too many symbolic links/)
})

test('a file of another user, and a folder that others may write to, are refused', () => {
  const file = at('real/file')
  refuseForeignFile(file)
  writeFileSync(file, '')
  refuseForeignFile(file)
  chownSync(file, NOBODY, NOBODY)
  expect(() => refuseForeignFile(file)).toThrow(`${file}: it belongs to user ${NOBODY}`)
  rmSync(file)
  for (const mode of [0o770, 0o707, 0o1777]) {
    chmodSync(at('real'), mode)
    expect(() => refuseForeignFile(file)).toThrow(`${at('real')}: others may write there`)
  }
  chmodSync(at('real'), 0o755)
  chownSync(at('real'), NOBODY, NOBODY)
  expect(() => refuseForeignFile(file)).toThrow(`${at('real')}: it belongs to user ${NOBODY}`)
  refuseForeignFile(at('none/at/all'))
})
