/**
 * Runs every contender once a round, starting with another one each round: what drifts on the
 * machine (clock, neighbours, caches) meets all of them alike.
 */
export async function alternate<Name extends string, Sample>(
  names: readonly Name[],
  rounds: number,
  run: (name: Name, round: number) => Promise<Sample> | Sample,
): Promise<Record<Name, Sample[]>> {
  const samples = Object.fromEntries(names.map(name => [name, []])) as unknown as Record<
    Name,
    Sample[]
  >
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length]!
      samples[name].push(await run(name, round))
    }
  }
  return samples
}
