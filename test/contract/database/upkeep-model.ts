import { evictionRank } from '../../../src/database/eviction-order.ts';
import type { NarSource, NewNar, NewPath, StoredNar, Totals } from '../../../src/database/metadata-store.ts';
import type {
  Ban,
  DanglingPath,
  Evictable,
  EvictingNar,
  NarAtGeneration,
  NewPin,
  PinRecord,
  SeenNar,
} from '../../../src/database/upkeep-store.ts';
import { IndexModel, isStored, type Nar, totalsOf } from './model.ts';
import { HOUR } from './records.ts';

interface Pin {
  readonly pin: NewPin;
  /** Hashes of its closure, as far as it was known. */
  readonly members: Set<string>;
}

/** The rules of `upkeep-store.ts` over plain maps, whose order of insertion is that of ids. */
export class UpkeepModel extends IndexModel {
  readonly pins: Map<string, Pin> = new Map();
  readonly bans: Map<string, Ban> = new Map();
  readonly #accesses: Map<string, number> = new Map();
  readonly #pushed: Set<string> = new Set();
  /** By key of a NAR, the hash whose ban has quarantined it. */
  readonly #quarantinedBy: Map<string, string> = new Map();

  override recordPath(path: NewPath, nar: NewNar): void {
    if (this.bans.has(path.hash)) this.recordNar(nar);
    else super.recordPath(path, nar);
  }

  override markPresent(key: string, stored: StoredNar): number | null {
    const before = this.nars.get(key)?.lastAccess ?? 0;
    const generation = super.markPresent(key, stored);
    if (generation !== null && stored.at > before + HOUR) this.#access(key);
    return generation;
  }

  override touch(accesses: readonly { readonly key: string; readonly at: number }[]): void {
    const before = new Map(this.nars);
    super.touch(accesses);
    for (const [key, nar] of this.nars) {
      if (nar.lastAccess !== before.get(key)?.lastAccess) this.#access(key);
    }
  }

  evictable(
    pushed: boolean,
    accessedBefore: number,
    now: number,
  ): readonly (Omit<Evictable, 'nar'> & { readonly nar: Nar })[] {
    const listed: (Omit<Evictable, 'nar'> & { readonly nar: Nar })[] = [];
    for (const [key, nar] of this.nars) {
      const accesses = this.#accesses.get(key) ?? 0;
      if (nar.state !== 'present' || this.#pushed.has(key) !== pushed || nar.lastAccess >= accessedBefore)
        continue;
      const rank = evictionRank({ lastAccess: nar.lastAccess, accesses, fileSize: nar.fileSize ?? 0 });
      listed.push({ nar, rank, accesses, keptBy: this.#keptBy(key, now) });
    }
    return listed.sort((left, right) => left.rank - right.rank);
  }

  markEvicting(seen: readonly SeenNar[], now: number, regardless: boolean): readonly string[] {
    const free = seen.filter(({ key, generation, lastAccess }) => {
      const nar = this.nars.get(key);
      if (nar?.state !== 'present' || nar.generation !== generation || nar.lastAccess !== lastAccess)
        return false;
      return regardless || this.#keptBy(key, now) === null;
    });
    for (const { key } of free) this.#become(key, 'evicting');
    return this.#keysIn('evicting', seen);
  }

  spareEvicting(nars: readonly NarAtGeneration[], now: number): readonly string[] {
    const kept = this.#keysIn('evicting', nars).filter((key) => this.#keptBy(key, now) !== null);
    for (const key of kept) this.#become(key, 'present');
    return this.#keysIn('present', nars);
  }

  finishEvicting(nars: readonly NarAtGeneration[]): readonly string[] {
    for (const key of this.#keysIn('evicting', nars)) this.#become(key, 'absent');
    return this.#keysIn('absent', nars);
  }

  evicting(): readonly Omit<EvictingNar, 'id'>[] {
    return [...this.nars.values()]
      .filter(({ state }) => state === 'evicting')
      .map(({ key, generation, fileSize }) => {
        return { key, generation, fileSize: fileSize ?? 0, hashes: [...this.#claiming(key)].sort() };
      });
  }

  markObtainable(key: string, source: NarSource | null): void {
    const nar = this.nars.get(key);
    if (nar === undefined) return;
    this.#pushed.delete(key);
    this.nars.set(key, { ...nar, source: nar.source ?? source });
  }

  putPin(pin: NewPin): void {
    this.pins.set(pin.name, { pin, members: new Set(this.closure([pin.hash])) });
  }

  refreshPins(now: number): readonly string[] {
    const removed: string[] = [];
    for (const [name, { pin, members }] of this.pins) {
      if (!isLive(pin, now)) {
        this.pins.delete(name);
        removed.push(name);
      } else {
        for (const hash of this.closure([pin.hash])) members.add(hash);
      }
    }
    return removed.sort();
  }

  listPins(): readonly PinRecord[] {
    const listed = [...this.pins.values()].map(({ pin, members }) => {
      const known = [...members].flatMap((hash) => this.paths.get(hash) ?? []);
      const present = this.#presentOf(members);
      return {
        ...pin,
        paths: members.size,
        unknownPaths: members.size - known.length,
        absentPaths: known.filter(({ narKey }) => this.nars.get(narKey)?.state !== 'present').length,
        presentBytes: totalsOf(present).presentBytes,
      };
    });
    return listed.sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  pinnedTotals(now: number): Totals {
    const live = [...this.pins.values()].filter(({ pin }) => isLive(pin, now));
    return totalsOf(this.#presentOf(live.flatMap(({ members }) => [...members])));
  }

  keeperOf(hash: string, now: number): Evictable['keptBy'] {
    for (const { pin, members } of this.pins.values())
      if (isLive(pin, now) && members.has(hash)) return 'pin';
    const own = this.paths.get(hash)?.narKey;
    if (own === undefined || !this.#pushed.has(own)) return null;
    const referring = [...this.paths.values()].filter((path) => this.references(path.hash).includes(hash));
    const retained = referring.filter(
      ({ narKey }) => this.#pushed.has(narKey) && isStored(this.nars.get(narKey)),
    );
    return retained.length > 0 ? 'referrer' : null;
  }

  banPath(ban: Ban): void {
    if (!this.bans.has(ban.hash)) this.bans.set(ban.hash, ban);
    const key = this.paths.get(ban.hash)?.narKey;
    this.paths.delete(ban.hash);
    if (key === undefined || this.#claiming(key).length > 0) return;
    if (this.nars.get(key)?.state === 'quarantined') return;
    this.markQuarantined(key);
    this.#quarantinedBy.set(key, ban.hash);
  }

  unbanPath(hash: string): boolean {
    for (const [key, by] of this.#quarantinedBy) {
      if (by !== hash) continue;
      this.#become(key, 'absent');
      this.#quarantinedBy.delete(key);
    }
    return this.bans.delete(hash);
  }

  /** By id, without it. */
  dangling(): readonly Omit<DanglingPath, 'id'>[] {
    return [...this.paths.values()].flatMap(({ hash, storePath, narKey }) => {
      if (!this.#pushed.has(narKey) || this.nars.get(narKey)?.state !== 'present') return [];
      const missing = this.references(hash).filter((reference) => {
        const key = this.paths.get(reference)?.narKey;
        return key === undefined || (this.#pushed.has(key) && !isStored(this.nars.get(key)));
      });
      const [first] = missing;
      return first === undefined ? [] : [{ hash, storePath, missing: first, missingCount: missing.length }];
    });
  }

  /** The whole index. @returns how many paths were forgotten */
  prune(unusedSince: number): number {
    const pinned = new Set([...this.pins.values()].flatMap(({ members }) => [...members]));
    const gone = [...this.paths.values()].filter(({ hash, narKey, recordedAt }) => {
      const nar = this.nars.get(narKey);
      if (nar === undefined || !isForgettable(nar)) return false;
      return nar.lastAccess < unusedSince && recordedAt < unusedSince && !pinned.has(hash);
    });
    for (const { hash } of gone) this.paths.delete(hash);
    for (const [key, nar] of this.nars) {
      if (!isForgettable(nar) || this.#claiming(key).length > 0) continue;
      this.nars.delete(key);
      this.#accesses.delete(key);
      this.#pushed.delete(key);
    }
    return gone.length;
  }

  protected override recordNar(nar: NewNar): void {
    if (!this.nars.has(nar.key) && nar.source === null) this.#pushed.add(nar.key);
    super.recordNar(nar);
  }

  #access(key: string): void {
    this.#accesses.set(key, (this.#accesses.get(key) ?? 0) + 1);
  }

  #become(key: string, state: Nar['state']): void {
    const nar = this.nars.get(key);
    if (nar !== undefined) this.nars.set(key, { ...nar, state });
  }

  #keysIn(state: Nar['state'], nars: readonly NarAtGeneration[]): readonly string[] {
    return nars
      .filter(({ key, generation }) => {
        const nar = this.nars.get(key);
        return nar?.state === state && nar.generation === generation;
      })
      .map(({ key }) => key);
  }

  /** Hashes of the paths of a NAR. */
  #claiming(key: string): readonly string[] {
    return [...this.paths.values()].filter(({ narKey }) => narKey === key).map(({ hash }) => hash);
  }

  #presentOf(hashes: Iterable<string>): readonly Nar[] {
    const keys = new Set([...hashes].flatMap((hash) => this.paths.get(hash)?.narKey ?? []));
    return [...keys].flatMap((key) => this.nars.get(key) ?? []).filter(({ state }) => state === 'present');
  }

  #keptBy(key: string, now: number): Evictable['keptBy'] {
    const claiming = this.#claiming(key);
    for (const { pin, members } of this.pins.values()) {
      if (isLive(pin, now) && claiming.some((hash) => members.has(hash))) return 'pin';
    }
    if (!this.#pushed.has(key)) return null;
    for (const { hash, narKey } of this.paths.values()) {
      if (narKey === key || !this.#pushed.has(narKey) || !isStored(this.nars.get(narKey))) continue;
      if (this.references(hash).some((reference) => claiming.includes(reference))) return 'referrer';
    }
    return null;
  }
}

function isLive({ expiresAt }: NewPin, now: number): boolean {
  return expiresAt === null || expiresAt > now;
}

function isForgettable({ state }: Nar): boolean {
  return state === 'known' || state === 'absent';
}
