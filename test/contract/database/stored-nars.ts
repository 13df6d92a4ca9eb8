import { expect } from 'vitest';
import type { IndexStore } from '../../../src/database/index-store.ts';
import type { NarAtGeneration, PrunedPage, SeenNar } from '../../../src/database/upkeep-store.ts';
import { keyOf, narOf, NOW, pathOf, storedNar } from './records.ts';

/** What a stored path of a test is like. */
export interface Stored {
  readonly references?: readonly number[];
  /** No upstream can give it again. */
  readonly pushed?: boolean;
  /** Milliseconds since the epoch. */
  readonly at?: number;
  /** Bytes. */
  readonly size?: number;
  /** The NAR, where it is not the one of the same number. */
  readonly nar?: number;
}

/** Records the `number`th path and its NAR as present. */
export async function store(index: IndexStore, number: number, stored: Stored = {}): Promise<void> {
  const { references = [], pushed = false, at = NOW, size = 500 + number, nar = number } = stored;
  await index.recordPath(pathOf(number, references), narOf(nar, pushed ? { source: null } : {}));
  await index.markPresent(keyOf(nar), storedNar(nar, { at, fileSize: size }));
}

/** The NARs of these numbers as they are now. */
export async function seen(index: IndexStore, ...numbers: readonly number[]): Promise<readonly SeenNar[]> {
  const nars = await index.upkeep.findNars(numbers.map(keyOf));
  return nars.map(({ key, generation, lastAccess }) => ({ key, generation, lastAccess }));
}

/** Evicts them wholly, whatever keeps them. */
export async function evict(index: IndexStore, ...numbers: readonly number[]): Promise<void> {
  const nars: readonly NarAtGeneration[] = await index.upkeep.markEvicting(
    await seen(index, ...numbers),
    NOW,
    { regardless: true },
  );
  await index.upkeep.finishEvicting(nars);
}

/** The state of the NAR of this number. */
export async function stateOf(index: IndexStore, number: number): Promise<string | null> {
  return (await index.getNar(keyOf(number)))?.nar.state ?? null;
}

/** Prunes the whole index in pages, with what is left of its paths. @returns how many paths were forgotten */
export async function pruneAll(index: IndexStore, unusedSince: number, limit: number = 2): Promise<number> {
  const { upkeep } = index;
  const removed = await inPages((afterId) => upkeep.prunePaths({ unusedSince, afterId, limit }));
  await inPages((afterId) => upkeep.pruneOrphans('nars', { afterId, limit }));
  await inPages((afterId) => upkeep.pruneOrphans('nodes', { afterId, limit }));
  return removed;
}

async function inPages(prune: (afterId: number) => Promise<PrunedPage>): Promise<number> {
  let removed = 0;
  let afterId = 0;
  for (;;) {
    const page = await prune(afterId);
    removed += page.removed;
    if (page.lastId === null) return removed;
    expect(page.lastId).toBeGreaterThan(afterId);
    afterId = page.lastId;
  }
}
