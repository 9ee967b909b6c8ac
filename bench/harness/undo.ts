/**
 * What has to be undone when the bench ends, however it ends: normally, by an error, by Ctrl-C or by
 * SIGTERM. Every step is synchronous, so that it also runs from the `exit` event.
 */
type Step = () => void

const steps: Step[] = []

/** Remembers `step`; the returned function runs it now (once). */
export function later(step: Step): Step {
  steps.push(step)
  return () => {
    const at = steps.indexOf(step)
    if (at < 0) return
    steps.splice(at, 1)
    step()
  }
}

/** Runs every step that is left, the last first. A step that fails does not keep the others back. */
export function undoAll(): void {
  for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
    try {
      step()
    } catch (error) {
      process.stderr.write(`bench: clean-up: ${error instanceof Error ? error.message : error}\n`)
    }
  }
}

/** Call once at the start of the program. */
export function undoAtExit(): void {
  process.on('exit', undoAll)
  const signals = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const
  for (const [name, number] of Object.entries(signals)) {
    process.on(name, () => process.exit(128 + number))
  }
}
