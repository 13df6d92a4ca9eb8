import type { NewPin, PinRecord } from '../database/upkeep-store.ts';
import { FormatError } from '../nix/format-error.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { Fills } from './fill/fills.ts';
import type { PathFinder } from './find-path.ts';
import { PIN_NAME, removePinMirrors, storePinMirror } from './mirrors.ts';
import type { CacheServices } from './services.ts';
import { createTurns } from './turns.ts';

/**
 * Named roots that are kept, each with its whole closure. A pin is an object of the bucket and rows of the index; the
 * rows are what an eviction looks at, the object is what they are rebuilt from (law 6).
 */
export interface Pins {
  /**
   * Pins a path, in place of what had the name. Its closure is looked up first, at the upstreams too.
   *
   * @throws PinError where there can be no such pin, CacheError where the root could not be looked up
   */
  put(request: PinRequest, options?: PinOptions): Promise<PutPin>;
  /** Downloads and stores every NAR of the closure that is not stored. @throws PinError where there is no such pin */
  fetch(name: string, options?: PinOptions): Promise<FetchedPin>;
  /** Returns whether there was such a pin. */
  delete(name: string): Promise<boolean>;
  get(name: string): Promise<PinRecord | null>;
  /** By name. */
  list(): Promise<readonly PinRecord[]>;
}

export interface PinRequest {
  readonly name: string;
  /** A full store path. */
  readonly storePath: string;
  /** Milliseconds since the epoch; null: never. */
  readonly expiresAt: number | null;
}

export interface PinOptions {
  readonly signal?: AbortSignal;
  /** Called as paths are found or NARs are stored; often. */
  readonly onProgress?: (progress: PinProgress) => void;
}

export interface PinProgress {
  /** Paths looked up, or NARs done with. */
  readonly done: number;
  /** Of so many that are known by now. */
  readonly total: number;
}

export interface PutPin {
  readonly pin: PinRecord;
  /** Hash parts of references that no source has. The first of them. */
  readonly missing: readonly string[];
  /** Bytes stored of all pins together, each NAR once. */
  readonly pinnedBytes: number;
  /** Whether these are more than the cache may keep: pins are never evicted. */
  readonly exceedsLimit: boolean;
}

export interface FetchedPin {
  readonly stored: number;
  /** Those that could not be stored, with the reason. The first of them. */
  readonly failed: readonly (readonly [key: string, reason: string])[];
  readonly failures: number;
}

/** A pin that cannot be. The message is for the one who asked. */
export class PinError extends Error {
  override readonly name = 'PinError';
  /** `invalid`: whatever is asked; `unknown`: no source has it, or there is no such pin. */
  readonly kind: 'invalid' | 'unknown';

  constructor(kind: PinError['kind'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}

const LOOKUPS_AT_ONCE = 16;
const FILLS_AT_ONCE = 4;
const MOST_LISTED = 100;
const PAGE = 200;

export function createPins(services: CacheServices, paths: PathFinder, fills: Fills): Pins {
  const { storage, metadata, upkeep, platform, settings } = services;

  async function put(request: PinRequest, options: PinOptions = {}): Promise<PutPin> {
    const pin = newPin(request);
    const root = await paths.find(pin.hash);
    if (root.kind === 'missing') {
      throw new PinError('unknown', `${pin.storePath} is not in this cache nor in its upstreams`);
    }
    if (root.known.path.storePath !== pin.storePath) {
      throw new PinError('invalid', `${pin.storePath} is known as ${root.known.path.storePath}`);
    }
    // A crash in between leaves what a rebuilt index would have: rather a pin too many than one too few.
    await platform.checkpoint?.('pin:mirror');
    await storePinMirror(storage, pin);
    await platform.checkpoint?.('pin:index');
    await upkeep.putPin(pin);
    const missing = await lookUpClosure(root.known.path.references, pin.hash, options);
    // With all that became known on the way.
    await upkeep.putPin(pin);
    const now = platform.clock.now();
    const { presentBytes } = await upkeep.pinnedTotals(now);
    const recorded = await get(pin.name);
    if (recorded === null) throw new PinError('unknown', `The pin ${pin.name} was deleted meanwhile`);
    const exceedsLimit = presentBytes > settings.maxSize;
    if (exceedsLimit) {
      platform.logger.warn('Pins take more than the limit: nothing else can be kept', {
        pinnedBytes: presentBytes,
        limit: settings.maxSize,
      });
    }
    return { pin: recorded, missing, pinnedBytes: presentBytes, exceedsLimit };
  }

  function newPin({ name, storePath, expiresAt }: PinRequest): NewPin {
    if (!PIN_NAME.test(name)) {
      const expected = 'expected up to 128 letters, digits, ".", "_" and "-", the first no "." or "-"';
      throw new PinError('invalid', `Cannot name a pin ${JSON.stringify(name)}: ${expected}`);
    }
    const createdAt = platform.clock.now();
    if (expiresAt !== null && expiresAt <= createdAt) {
      throw new PinError('invalid', 'The pin would have expired already');
    }
    try {
      const { hash } = parseStorePath(storePath, settings.storeDir);
      return { name, storePath, hash, createdAt, expiresAt };
    } catch (cause) {
      if (!(cause instanceof FormatError)) throw cause;
      throw new PinError('invalid', cause.message, { cause });
    }
  }

  /** Every path of the closure, so that the index has all its edges. @returns what no source has */
  async function lookUpClosure(
    references: readonly string[],
    root: string,
    { signal, onProgress }: PinOptions,
  ): Promise<readonly string[]> {
    const seen = new Set([root]);
    const missing: string[] = [];
    const turns = createTurns(LOOKUPS_AT_ONCE);
    let done = 1;

    async function follow(names: readonly string[]): Promise<void> {
      const fresh = names.map((name) => name.slice(0, HASH_LENGTH)).filter((hash) => !seen.has(hash));
      for (const hash of fresh) seen.add(hash);
      await Promise.all(
        fresh.map(async (hash) => {
          const found = await turns.take(() => {
            signal?.throwIfAborted();
            return paths.find(hash);
          });
          done += 1;
          onProgress?.({ done, total: seen.size });
          if (found.kind === 'found') await follow(found.known.path.references);
          else if (missing.length < MOST_LISTED) missing.push(hash);
        }),
      );
    }

    await follow(references);
    return missing;
  }

  async function get(name: string): Promise<PinRecord | null> {
    return (await upkeep.listPins()).find((pin) => pin.name === name) ?? null;
  }

  return {
    put,
    get,
    list: () => upkeep.listPins(),

    async delete(name) {
      // The rows first: a mirror that is left protects after a loss of the index, and is removed by the next try.
      await platform.checkpoint?.('unpin:index');
      const was = await upkeep.deletePin(name);
      if (!PIN_NAME.test(name)) return was;
      await platform.checkpoint?.('unpin:mirror');
      await removePinMirrors(storage, [name]);
      return was;
    },

    async fetch(name, { signal, onProgress } = {}) {
      const pin = await get(name);
      if (pin === null) throw new PinError('unknown', `There is no pin ${JSON.stringify(name)}`);
      const hashes = await metadata.closure([pin.hash]);
      const failed: (readonly [string, string])[] = [];
      const turns = createTurns(FILLS_AT_ONCE);
      let failures = 0;
      let stored = 0;
      let done = 0;

      async function fill(key: string): Promise<void> {
        signal?.throwIfAborted();
        const filling = fills.join(key, { leader: false });
        const letGo = filling.keep();
        try {
          const end = await filling.done;
          if (end.kind === 'committed') stored += 1;
          if (end.kind === 'committed' || end.kind === 'stored') return;
          failures += 1;
          const reason =
            end.kind === 'unsaved' ? end.why : end.kind === 'failed' ? end.error.message : 'no source has it';
          if (failed.length < MOST_LISTED) failed.push([key, reason]);
        } finally {
          letGo();
        }
      }

      for (let at = 0; at < hashes.length; at += PAGE) {
        const known = await upkeep.findPaths(hashes.slice(at, at + PAGE));
        await Promise.all(
          known.map(({ nar }) =>
            turns.take(async () => {
              if (nar.state !== 'present') await fill(nar.key);
              done += 1;
              onProgress?.({ done, total: hashes.length });
            }),
          ),
        );
      }
      return { stored, failed, failures };
    },
  };
}

const HASH_LENGTH = 32;
