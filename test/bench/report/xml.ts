/** A parser that takes well-formed XML and nothing else; enough of it for a report. */
export interface Element {
  name: string
  attributes: Record<string, string>
  children: (Element | string)[]
}

const ENTITIES: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"' }

function unescaped(text: string): string {
  if (/[<>]/.test(text.replaceAll('>', ''))) throw new Error(`unescaped: ${text}`)
  return text.replace(/&(\w*);?/g, (whole, name: string) => {
    const found = ENTITIES[name]
    if (found === undefined || !whole.endsWith(';')) throw new Error(`entity ${whole}`)
    return found
  })
}

/** The root element. Throws for a document that is not well-formed, or has anything behind it. */
export function parse(text: string): Element {
  const root: Element = { name: '', attributes: {}, children: [] }
  const open = [root]
  const token = /<(\/?)([\w:-]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>|([^<]+)/gy
  for (let at = 0; at < text.length; at = token.lastIndex) {
    token.lastIndex = at
    const match = token.exec(text)
    if (match === null) throw new Error(`not well-formed: ${text.slice(at, at + 60)}`)
    const [, closing, name, attributes, empty, data] = match
    const parent = open.at(-1)!
    if (data !== undefined) parent.children.push(unescaped(data))
    else if (closing) {
      if (open.pop()?.name !== name) throw new Error(`</${name}> closes nothing`)
    } else {
      const element: Element = { name: name!, attributes: {}, children: [] }
      for (const [, key, value] of attributes!.matchAll(/([\w:-]+)="([^"]*)"/g)) {
        if (key! in element.attributes) throw new Error(`${name}: ${key} twice`)
        element.attributes[key!] = unescaped(value!)
      }
      parent.children.push(element)
      if (!empty) open.push(element)
    }
  }
  if (open.length !== 1) throw new Error(`<${open.at(-1)!.name}> is not closed`)
  const [html, ...rest] = root.children.filter(child => typeof child !== 'string' || child.trim())
  if (rest.length > 0 || typeof html !== 'object') throw new Error('not one root element')
  return html
}

/** All elements of a name, in order. */
export function all(of: Element, name: string): Element[] {
  const inner = of.children.flatMap(child => (typeof child === 'string' ? [] : all(child, name)))
  return of.name === name ? [of, ...inner] : inner
}

export function textOf(of: Element): string {
  return of.children.map(child => (typeof child === 'string' ? child : textOf(child))).join('')
}
