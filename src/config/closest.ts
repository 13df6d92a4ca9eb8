/**
 * The candidate that a person most likely meant by `text`: the one with the fewest letters changed, or else the
 * only one that has all of its words.
 *
 * @returns null where none is near
 */
export function closest(text: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let least = Math.max(2, Math.floor(text.length / 4)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(text, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  if (best !== null) return best;
  const words = text.split('_');
  const containing = candidates.filter((candidate) =>
    words.every((word) => candidate.split('_').includes(word)),
  );
  return containing.length === 1 ? (containing[0] ?? null) : null;
}

/** How many letters must be put in, taken out or replaced to turn one text into the other (Levenshtein). */
function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const replaced = (previous[column - 1] ?? 0) + (from[row - 1] === to[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[to.length] ?? 0;
}
