/**
 * A port around a port that records what passes (classic pcap, one file a direction). For tests and
 * for looking at a bench: it writes synchronously and allocates, so nothing of it runs in a daemon.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { native } from '../../native/native.ts'
import type { Arena } from '../memory/arena.ts'
import type { Batch } from '../packet/batch.ts'
import type { Port } from './port.ts'

/** Link types of libpcap. */
const LINKTYPE_ETHERNET = 1
const LINKTYPE_RAW = 101
const SNAPSHOT = 65_535
const ETHERNET = 14

export class PcapPort implements Port {
  readonly index: number
  readonly kind: number
  readonly role: number
  readonly ethernet: boolean
  readonly hiddenPartial: boolean
  readonly superframes: boolean
  readonly partialChecksums: boolean
  readonly fd: number
  readonly polled: boolean
  private readonly inner: Port
  private readonly arena: Arena
  private readonly received: number
  private readonly sent: number

  /** Records what `inner` receives in `PREFIX.rx.pcap` and what it sends in `PREFIX.tx.pcap` (IP packets, before its Ethernet header is written). */
  constructor(inner: Port, arena: Arena, prefix: string) {
    this.inner = inner
    this.arena = arena
    this.index = inner.index
    this.kind = inner.kind
    this.role = inner.role
    this.ethernet = inner.ethernet
    this.hiddenPartial = inner.hiddenPartial
    this.superframes = inner.superframes
    this.partialChecksums = inner.partialChecksums
    this.fd = inner.fd
    this.polled = inner.polled
    this.received = create(`${prefix}.rx.pcap`, inner.ethernet ? LINKTYPE_ETHERNET : LINKTYPE_RAW)
    this.sent = create(`${prefix}.tx.pcap`, LINKTYPE_RAW)
  }

  receive(batch: Batch, max: number): number {
    const before = batch.n
    const n = this.inner.receive(batch, max)
    const link = this.ethernet ? ETHERNET : 0
    for (let i = before; i < batch.n; i++) {
      this.record(this.received, batch.l3[i]! - link, (batch.len[i]! + link) >>> 0)
    }
    return n
  }

  send(batch: Batch, i: number): number {
    const l3 = batch.l3[i]!
    const length = batch.len[i]!
    const copy = this.arena.bytes.slice(l3, l3 + length)
    const reason = this.inner.send(batch, i)
    if (reason === 0) write(this.sent, copy)
    return reason
  }

  flush(): void {
    this.inner.flush()
  }

  service(): void {
    this.inner.service()
  }

  pending(): boolean {
    return this.inner.pending()
  }

  gone(): boolean {
    return this.inner.gone()
  }

  look(): boolean {
    return this.inner.look()
  }

  /** Closes the port and both files. */
  close(): void {
    this.inner.close()
    closeSync(this.received)
    closeSync(this.sent)
  }

  private record(fd: number, at: number, length: number): void {
    write(fd, this.arena.bytes.slice(at, at + Math.min(length, SNAPSHOT)))
  }
}

function create(path: string, linkType: number): number {
  const fd = openSync(path, 'w', 0o600)
  const header = Buffer.alloc(24)
  header.writeUInt32LE(0xa1b2c3d4, 0)
  header.writeUInt16LE(2, 4)
  header.writeUInt16LE(4, 6)
  header.writeUInt32LE(SNAPSHOT, 16)
  header.writeUInt32LE(linkType, 20)
  writeSync(fd, header)
  return fd
}

function write(fd: number, packet: Uint8Array): void {
  const header = Buffer.alloc(16)
  const ns = native.monotonic()
  header.writeUInt32LE(Math.floor(ns / 1e9) >>> 0, 0)
  header.writeUInt32LE(Math.floor((ns % 1e9) / 1000), 4)
  header.writeUInt32LE(packet.length, 8)
  header.writeUInt32LE(packet.length, 12)
  writeSync(fd, header)
  writeSync(fd, packet)
}
