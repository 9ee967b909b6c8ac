/**
 * A copy of a function with type feedback of its own. V8 keeps what it learned at a call site with
 * the function's source, so that one loop that drives several contenders is compiled for all of them
 * at once (megamorphic), which no program with one algorithm would meet. The function must use
 * nothing but its arguments and globals.
 */
// biome-ignore lint/suspicious/noExplicitAny: any function.
export function fresh<F extends (...args: any[]) => unknown>(call: F): F {
  return new Function(`return (${call})`)() as F
}
