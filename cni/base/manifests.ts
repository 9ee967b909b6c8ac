/**
 * A folder of manifests: YAML files of one or more documents, or JSON, each an object of Kubernetes or a list of them.
 * An error names the file, the line, the field and the cause.
 */
import { createHash } from 'node:crypto'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Document, LineCounter, parseAllDocuments } from 'yaml'
import { DocumentError, type FieldPath, readBounded, YAML, yamlCause } from './document.ts'

/** Files of a folder that are read, at most. */
export const MAX_FILES = 16_384

export interface Manifest {
  file: string
  object: unknown
  /** Line, from 1, of a field of the object; of the nearest one around it that is there. */
  line(path: FieldPath): number
}

/** Milliseconds of age that a file must have, for its time of change to tell of the next one. */
const SETTLED_MS = 100

/** A folder that is read again and again: of a file that has not changed, the objects are the ones of before. */
export class ManifestFolder {
  readonly path: string
  #files = new Map<string, KnownFile>()

  constructor(path: string) {
    this.path = path
  }

  /** Every object of every `.yaml`, `.yml` and `.json`, by file name. Throws DocumentError. */
  read(): Manifest[] {
    const files = new Map<string, KnownFile>()
    for (const name of namesIn(this.path)) {
      files.set(name, knownFile(join(this.path, name), this.#files.get(name)))
    }
    this.#files = files
    return [...files.values()].flatMap(({ manifests }) => manifests)
  }
}

interface KnownFile {
  mark: string
  digest: string
  manifests: readonly Manifest[]
}

function knownFile(file: string, before: KnownFile | undefined): KnownFile {
  const mark = markOf(file)
  if (before !== undefined && mark !== '' && before.mark === mark) return before
  const text = readBounded(file)
  const digest = createHash('sha256').update(text).digest('base64')
  const same = before?.digest === digest
  return { mark, digest, manifests: same ? before.manifests : parseManifests(file, text) }
}

/** Every object of every `.yaml`, `.yml` and `.json` in `folder`, by file name. Throws DocumentError. */
export function readManifests(folder: string): Manifest[] {
  return new ManifestFolder(folder).read()
}

function namesIn(folder: string): string[] {
  let names: string[]
  try {
    names = readdirSync(folder).filter(name => /^[^.].*\.(?:ya?ml|json)$/.test(name))
  } catch (error) {
    throw new DocumentError(folder, [{ path: [], cause: (error as Error).message }])
  }
  if (names.length > MAX_FILES) {
    const cause = `${names.length} files are more than ${MAX_FILES} (MAX_FILES)`
    throw new DocumentError(folder, [{ path: [], cause }])
  }
  return names.sort()
}

/** What is another one after every change of the file; empty when that is not sure. */
function markOf(file: string): string {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false })
  if (stat === undefined || Date.now() - Number(stat.ctimeMs) < SETTLED_MS) return ''
  return [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(' ')
}

/** The objects of one file; `kind: List` is taken apart. Throws DocumentError with the line. */
export function parseManifests(file: string, text: string): Manifest[] {
  const source = new Source(text)
  return source.documents().flatMap((document, index) => {
    const broken = document.errors[0] ?? document.warnings[0]
    if (broken !== undefined) {
      throw new DocumentError(file, [{ path: [], cause: yamlCause(broken) }], { cause: broken })
    }
    const object = contentOf(file, document)
    if (object === null || object === undefined) return []
    const at = (path: FieldPath): number => source.line(index, path)
    const { kind, items } = object as { kind?: unknown; items?: unknown }
    if (typeof kind !== 'string' || !kind.endsWith('List') || !Array.isArray(items)) {
      return [{ file, object, line: at }]
    }
    return items.map((item: unknown, i) => ({
      file,
      object: item,
      line: (path: FieldPath) => at(['items', i, ...path]),
    }))
  })
}

/**
 * A file's text, which knows lines. What the parser has made of it takes thirty times its room, and is kept only as long as
 * nobody needs that.
 */
class Source {
  readonly #text: string
  #parsed: WeakRef<{ documents: Document[]; lines: LineCounter }> | undefined

  constructor(text: string) {
    this.#text = text
  }

  documents(): Document[] {
    return this.#parse().documents
  }

  /** Line of a field of the `index`th document. */
  line(index: number, path: FieldPath): number {
    const { documents, lines } = this.#parse()
    return lineOf(documents[index]!, lines, path)
  }

  #parse(): { documents: Document[]; lines: LineCounter } {
    const known = this.#parsed?.deref()
    if (known !== undefined) return known
    const lines = new LineCounter()
    const found = parseAllDocuments(this.#text, { ...YAML, lineCounter: lines })
    const parsed = { documents: Array.isArray(found) ? (found as Document[]) : [], lines }
    this.#parsed = new WeakRef(parsed)
    return parsed
  }
}

function contentOf(file: string, document: Document): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    throw new DocumentError(file, [{ path: [], cause: yamlCause(error as Error) }])
  }
}

function lineOf(document: Document, lines: LineCounter, path: FieldPath): number {
  for (let length = path.length; length >= 0; length--) {
    const node = document.getIn(path.slice(0, length), true) as { range?: [number] } | undefined
    const start = node?.range?.[0]
    if (start !== undefined) return lines.linePos(start).line
  }
  return 1
}
