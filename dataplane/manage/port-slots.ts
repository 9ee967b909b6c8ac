/**
 * Ports as the main thread manages them: free places in the port table, and the two steps of taking
 * one away. A port first stops being served (CLOSING); when every worker has seen that, the kernel's
 * end is closed; then (CLOSED) the workers take back the frames that it held.
 */
import { KernelDrops } from '../afxdp/kernel-drops.ts'
import { MAX_PORTS } from '../limits.ts'
import { type Arena, HEADER, PORT_COUNTER, portCounters } from '../memory/arena.ts'
import { PORT_KIND } from '../ports/port.ts'
import { NO_PORT, PORT_STATE, type PortRecord, writePort } from '../tables/ports.ts'
import type { TableWriter } from '../tables/tables.ts'

export class PortSlots {
  private readonly arena: Arena
  private readonly tables: TableWriter
  private readonly records: (PortRecord | undefined)[] = []
  /** What else counts the kernel's drops, called by `countKernelDrops`. */
  readonly counted: (() => void)[] = []
  private readonly kernelDrops: KernelDrops

  constructor(arena: Arena, tables: TableWriter) {
    this.arena = arena
    this.tables = tables
    this.kernelDrops = new KernelDrops(arena)
  }

  /** Keeps a place free for a port. Throws RangeError when all are taken. */
  reserve(): number {
    for (let index = 0; index < MAX_PORTS; index++) {
      if (this.records[index] === undefined) {
        this.records[index] = NO_PORT
        return index
      }
    }
    throw new RangeError(`no free port: a node has ${MAX_PORTS} (MAX_PORTS)`)
  }

  /** Gives back a place that was reserved and never activated. */
  cancel(index: number): void {
    if (this.records[index] === NO_PORT) this.records[index] = undefined
  }

  /** Call inside a change of the tables: workers serve the port from then on. */
  activate(index: number, record: Omit<PortRecord, 'state'>): void {
    this.write(index, { ...record, state: PORT_STATE.ACTIVE })
  }

  /** Call inside a change of the tables: a port that is served has these fields from then on; one that closes stays closed. */
  update(index: number, fields: Partial<Omit<PortRecord, 'state'>>): void {
    const record = this.records[index]
    if (record?.state === PORT_STATE.ACTIVE) this.write(index, { ...record, ...fields })
  }

  record(index: number): PortRecord | undefined {
    return this.records[index]
  }

  /** Counts what the kernel has dropped in front of all ports since it was last asked. */
  countKernelDrops(): void {
    for (let index = 0; index < MAX_PORTS; index++) this.readKernelDrops(index)
    for (const count of this.counted) count()
  }

  private readKernelDrops(index: number): void {
    const record = this.records[index]
    if (record?.kind !== PORT_KIND.XDP || record.state === PORT_STATE.CLOSED) return
    this.kernelDrops.look(index, record.fds)
  }

  /** Takes the port away; `closeKernel` closes its descriptors, when no worker uses them any more. */
  async remove(index: number, closeKernel: () => unknown): Promise<void> {
    const record = this.records[index]
    if (record === undefined) return
    const { tables } = this
    const step = (state: number) =>
      tables.acknowledged(tables.change(() => this.write(index, { ...record, state })))
    await step(PORT_STATE.CLOSING)
    this.readKernelDrops(index)
    this.kernelDrops.forget(index)
    await closeKernel()
    await step(PORT_STATE.CLOSED)
    tables.change(() => this.write(index, NO_PORT))
    for (let w = 0; w < this.arena.layout.plan.workers; w++) {
      const at = portCounters(index)
      this.arena.counters(w).fill(0, at, at + PORT_COUNTER.COUNT)
    }
    this.records[index] = undefined
  }

  private write(index: number, record: PortRecord): void {
    const header = this.arena.header()
    this.records[index] = record
    writePort(this.arena, index, record)
    header[HEADER.PORT_COUNT] = Math.max(header[HEADER.PORT_COUNT]!, index + 1)
  }
}
