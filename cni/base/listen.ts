/** An address and a port to listen at, as configuration writes them. */
import { isIP } from 'node:net'

/** Where to listen. */
export interface ListenAddress {
  /** An address of the node, without brackets. */
  host: string
  /** 0: any that is free. */
  port: number
}

/** `127.0.0.1:9473`, `[::1]:9473`: an address, not a name, so that nothing has to be looked up. */
export function listenAddress(text: string): ListenAddress | undefined {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+)):([0-9]{1,5})$/.exec(text) ?? []
  const host = bracketed ?? plain ?? ''
  const fits = isIP(host) === (bracketed === undefined ? 4 : 6) && Number(port) <= 0xffff
  return fits ? { host, port: Number(port) } : undefined
}
