/** The naive flow table: a Map, in one thread, without an end of room. Oracle of tests and benches. */

import { FLOW_KEY_WORDS } from '../hash/flow-key.ts'
import { type FlowAnswers, type FlowDecisions, type FlowKeys, FOUND } from './flow.ts'

interface Flow {
  generation: number
  actions: [number, number]
  tick: number
  port: number
  timeoutClass: number
}

export class MapOracle {
  readonly flows = new Map<string, Flow>()

  private name({ words }: FlowKeys, i: number): string {
    return words.slice(i * FLOW_KEY_WORDS, (i + 1) * FLOW_KEY_WORDS).join()
  }

  probe(keys: FlowKeys, n: number, generation: number, answers: FlowAnswers): void {
    for (let i = 0; i < n; i++) {
      const flow = this.flows.get(this.name(keys, i))
      answers.found[i] =
        flow === undefined
          ? FOUND.MISS
          : flow.generation === generation
            ? FOUND.CURRENT
            : FOUND.STALE
      if (flow !== undefined) answers.actions[i] = flow.actions[keys.directions[i]!]!
    }
  }

  insert(
    keys: FlowKeys,
    n: number,
    { forward, reverse, ports, classes }: FlowDecisions,
    generation: number,
    tick: number,
    answers: FlowAnswers,
  ): void {
    for (let i = 0; i < n; i++) {
      const direction = keys.directions[i]!
      const name = this.name(keys, i)
      const flow = this.flows.get(name)
      const actions: [number, number] = [forward[i]!, reverse[i]!]
      if (direction === 1) actions.reverse()
      if (flow === undefined) {
        const made = { generation, actions, tick, port: ports[i]!, timeoutClass: classes[i]! }
        this.flows.set(name, made)
        answers.found[i] = FOUND.INSERTED
      } else if (flow.generation === generation) {
        answers.found[i] = FOUND.CURRENT
      } else {
        Object.assign(flow, { generation, actions })
        answers.found[i] = FOUND.REFRESHED
      }
      answers.actions[i] = this.flows.get(name)!.actions[direction]!
    }
  }

  touch(keys: FlowKeys, i: number, tick: number): void {
    const flow = this.flows.get(this.name(keys, i))
    if (flow !== undefined) flow.tick = tick
  }

  remove(keys: FlowKeys, n: number): number {
    let removed = 0
    for (let i = 0; i < n; i++) if (this.flows.delete(this.name(keys, i))) removed++
    return removed
  }

  /** A whole round of the wheel. */
  age(tick: number, timeouts: readonly number[]): number {
    let aged = 0
    for (const [name, flow] of this.flows) {
      const age = (tick - flow.tick) & 0xffff
      if (age >= 0x8000 || age < timeouts[flow.timeoutClass]!) continue
      this.flows.delete(name)
      aged++
    }
    return aged
  }
}
