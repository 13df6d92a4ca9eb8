import type {
  MetadataStore,
  NarRecord,
  NewNar,
  NewPath,
  PathRecord,
  PathWithNar,
  StoredNar,
  Totals,
} from '../../../src/database/metadata-store.ts';
import { HOUR } from './records.ts';

export type Path = Omit<PathRecord, 'id'>;
export type Nar = Omit<NarRecord, 'id'>;

/** The rules of `metadata-store.ts` over plain maps, as simply as they can be said. It has no ids. */
export class IndexModel {
  readonly paths: Map<string, Path> = new Map();
  readonly nars: Map<string, Nar> = new Map();

  /** The state of everything, in an order that does not depend on the order of events. */
  getPath(hash: string): { path: Path; nar: Nar | undefined } | null {
    const path = this.paths.get(hash);
    return path === undefined ? null : { path, nar: this.nars.get(path.narKey) };
  }

  recordPath(path: NewPath, nar: NewNar): void {
    this.recordNar(nar);
    if (!this.paths.has(path.hash)) this.paths.set(path.hash, { ...path, narKey: nar.key, revision: 1 });
  }

  replacePath(path: NewPath, nar: NewNar, revision: number): void {
    const before = this.paths.get(path.hash);
    if (before?.revision === revision) {
      this.recordNar(nar);
      this.paths.set(path.hash, { ...path, narKey: nar.key, revision: revision + 1 });
    } else {
      this.recordPath(path, nar);
    }
  }

  rejustifyPath(
    hash: string,
    revision: number,
    change: Parameters<MetadataStore['rejustifyPath']>[2],
  ): boolean {
    const path = this.paths.get(hash);
    if (path?.revision !== revision) return false;
    this.paths.set(hash, { ...path, ...change, revision: revision + 1 });
    return true;
  }

  markPresent(key: string, stored: StoredNar): number | null {
    const nar = this.nars.get(key);
    if (nar === undefined || nar.state === 'quarantined') return null;
    const { fileHash, fileSize, verification, at } = stored;
    const generation = nar.generation + 1;
    const lastAccess = Math.max(nar.lastAccess, at);
    this.nars.set(key, {
      ...nar,
      fileHash,
      fileSize,
      verification,
      lastAccess,
      generation,
      state: 'present',
    });
    return generation;
  }

  markAbsent(key: string, generation: number): boolean {
    const nar = this.nars.get(key);
    if (!isStored(nar) || nar.generation !== generation) return false;
    this.nars.set(key, { ...nar, state: 'absent' });
    return true;
  }

  markQuarantined(key: string): void {
    const nar = this.nars.get(key);
    if (nar === undefined || nar.state === 'quarantined') return;
    this.nars.set(key, { ...nar, state: 'quarantined', generation: nar.generation + 1 });
  }

  markVerified(key: string, generation: number): boolean {
    const nar = this.nars.get(key);
    if (!isStored(nar) || nar.generation !== generation) return false;
    this.nars.set(key, { ...nar, verification: 'nar' });
    return true;
  }

  touch(accesses: readonly { readonly key: string; readonly at: number }[]): void {
    const latest = new Map<string, number>();
    for (const { key, at } of accesses) latest.set(key, Math.max(at, latest.get(key) ?? 0));
    for (const [key, at] of latest) {
      const nar = this.nars.get(key);
      if (nar !== undefined && at > nar.lastAccess + HOUR) this.nars.set(key, { ...nar, lastAccess: at });
    }
  }

  references(hash: string): readonly string[] {
    const hashes = this.paths.get(hash)?.references.map((reference) => reference.slice(0, 32)) ?? [];
    return [...new Set(hashes)].filter((reference) => reference !== hash).sort();
  }

  closure(roots: readonly string[]): readonly string[] {
    const found = new Set<string>();
    const visit = (hash: string): void => {
      if (found.has(hash)) return;
      found.add(hash);
      this.references(hash).forEach(visit);
    };
    roots.forEach(visit);
    return [...found].sort();
  }

  unverified(): readonly Nar[] {
    return [...this.nars.values()].filter((nar) => nar.state === 'present' && nar.verification !== 'nar');
  }

  totals(): Totals {
    return totalsOf([...this.nars.values()].filter(isStored));
  }

  protected recordNar(nar: NewNar): void {
    if (this.nars.has(nar.key)) return;
    this.nars.set(nar.key, { ...nar, state: 'known', verification: 'none', generation: 0, lastAccess: 0 });
  }
}

/** Whether its body counts: it is present, or not gone yet. */
export function isStored(nar: Nar | undefined): nar is Nar {
  return nar?.state === 'present' || nar?.state === 'evicting';
}

export function totalsOf(stored: readonly Nar[]): Totals {
  return {
    presentBytes: stored.reduce((sum, nar) => sum + (nar.fileSize ?? 0), 0),
    presentNars: stored.length,
  };
}

/** A record without the ids, which the model does not have. */
export function withoutIds(known: PathWithNar | null): { path: Path; nar: Nar } | null {
  if (known === null) return null;
  return { path: withoutId(known.path), nar: withoutId(known.nar) };
}

export function withoutId<Row extends { readonly id: number }>(row: Row): Omit<Row, 'id'> {
  const { id: _, ...rest } = row;
  return rest;
}
