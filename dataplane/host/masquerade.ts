/**
 * Masquerading as the main thread keeps it: the rules in force, and whether they still are. Somebody may
 * flush them (`nft flush ruleset` when a firewall is reloaded); nftables tells, and they come back.
 */
import { listMasquerade, type MasqueradeFacts, setMasquerade } from '../nft/masquerade.ts'
import type { Conditions } from '../weather/conditions.ts'

const KEY = 'masquerade'

export class Masquerade {
  private readonly conditions: Conditions
  private facts: MasqueradeFacts | undefined
  /** What nft said of the rules when they were put in force. */
  private listing = ''
  private turn: Promise<void> = Promise.resolve()

  constructor(conditions: Conditions) {
    this.conditions = conditions
  }

  /** Puts the rules for `facts` in force instead of those before. Throws when nft is missing or refuses them. */
  follow(facts: MasqueradeFacts): Promise<void> {
    return this.inTurn(async () => {
      await this.apply(facts)
      this.conditions.clear(KEY)
    })
  }

  /** Puts the rules in force again when they are not; a trouble that blocks when that fails. */
  look(): Promise<void> {
    return this.inTurn(async () => {
      const { facts, conditions } = this
      if (facts === undefined) return
      try {
        if ((await listMasquerade()) !== this.listing) {
          await this.apply(facts)
          conditions.mended(
            'nft',
            'the masquerading rules were lost or changed; they are in force again',
          )
        }
        conditions.clear(KEY)
      } catch (error) {
        const cause = error instanceof Error ? error.message : String(error)
        conditions.raise(KEY, `pods are not masqueraded: ${cause}`, { blocking: true })
      }
    })
  }

  private async apply(facts: MasqueradeFacts): Promise<void> {
    await setMasquerade(facts)
    this.facts = facts
    this.listing = await listMasquerade()
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.turn.then(work)
    this.turn = mine.catch(() => {})
    return mine
  }
}
