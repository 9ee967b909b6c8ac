/** How a case says what a plugin got wrong. */

/** What was seen is not what must be. */
export class Failed extends Error {
  override readonly name = 'Failed'
}
