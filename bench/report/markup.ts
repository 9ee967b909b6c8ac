/** Elements as text: every attribute quoted, every text escaped, every element closed, so that the page is well-formed XML too. */

/** What is already markup, as opposed to text that has to be escaped. */
export class Markup {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

export type Child = Markup | string | number | readonly Child[] | undefined
type Attributes = Record<string, string | number | undefined>

export function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}

/** An element. Attributes that are undefined are left out; numbers are rounded to hundredths. */
export function el(name: string, attributes: Attributes, ...children: Child[]): Markup {
  let head = name
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined) continue
    const text = typeof value === 'number' ? String(Math.round(value * 100) / 100) : value
    head += ` ${key}="${escaped(text)}"`
  }
  const inner = children.map(markup).join('')
  return new Markup(inner === '' && VOID.has(name) ? `<${head}/>` : `<${head}>${inner}</${name}>`)
}

/** Elements that are written without an end tag when they are empty. */
const VOID = new Set(['meta', 'line', 'path', 'circle', 'rect', 'polygon', 'br'])

function markup(child: Child): string {
  if (child === undefined) return ''
  if (child instanceof Markup) return child.text
  if (typeof child === 'string') return escaped(child)
  if (typeof child === 'number') return escaped(String(child))
  return child.map(markup).join('')
}
