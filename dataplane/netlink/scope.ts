/** rt_scope_t (linux/rtnetlink.h): how far an address or a route reaches. */
const SCOPES = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const

/** A number is one of the user-defined scopes between them. */
export type Scope = keyof typeof SCOPES | number

const NAMES = new Map<number, Scope>(
  Object.entries(SCOPES).map(([name, value]) => [value, name as keyof typeof SCOPES]),
)

export function scopeNumber(scope: Scope): number {
  return typeof scope === 'number' ? scope : SCOPES[scope]
}

export function scopeName(value: number): Scope {
  return NAMES.get(value) ?? value
}
