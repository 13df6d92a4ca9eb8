import type { PathWithNar } from '../database/metadata-store.ts';
import type { NewPin, PinRecord } from '../database/upkeep-store.ts';
import { FormatError } from '../nix/format-error.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { FillEnd } from './fill/fill.ts';
import type { Fills } from './fill/fills.ts';
import type { PathFinder } from './find-path.ts';
import { lookUpClosure, type LookUpOptions } from './look-up-closure.ts';
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
  put(request: PinRequest, options?: PutOptions): Promise<PutPin>;
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

export interface PutOptions extends PinOptions {
  /** The closure is not looked up now, but by `fetch`: until then it is kept as far as it is known. */
  readonly shallow?: boolean;
}

/** Progress is told as paths are looked up, or NARs done with. */
export type PinOptions = LookUpOptions;

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

const FILLS_AT_ONCE = 4;
/** Reasons that are listed. */
const MOST_LISTED = 100;
const PAGE = 200;

export function createPins(services: CacheServices, paths: PathFinder, fills: Fills): Pins {
  const { storage, metadata, upkeep, platform, settings } = services;

  async function put(request: PinRequest, options: PutOptions = {}): Promise<PutPin> {
    const pin = newPin(request);
    const root = await paths.find(pin.hash);
    if (root.kind === 'missing') {
      throw new PinError('unknown', `${pin.storePath} is not in this cache nor in its upstreams`);
    }
    if (root.known.path.storePath !== pin.storePath) {
      throw new PinError('invalid', `${pin.storePath} is known as ${root.known.path.storePath}`);
    }
    const { missing } =
      options.shallow === true
        ? { missing: [] }
        : await lookUpClosure(paths, pin.hash, root.known.path.references, options);
    // A crash in between leaves what a rebuilt index would have: rather a pin too many than one too few.
    await platform.checkpoint?.('pin:mirror');
    await storePinMirror(storage, pin);
    await platform.checkpoint?.('pin:index');
    await upkeep.putPin(pin);
    await spare(pin.hash);
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

  /** What an eviction has begun with stays, where it has not gone yet: it looks again before it deletes. */
  async function spare(hash: string): Promise<void> {
    for await (const page of closurePages(hash)) {
      const evicting = page.map(({ nar }) => nar).filter(({ state }) => state === 'evicting');
      await upkeep.spareEvicting(evicting, platform.clock.now());
    }
  }

  /** The paths of a closure that are known. */
  async function* closurePages(hash: string): AsyncGenerator<readonly PathWithNar[], void, void> {
    const hashes = await metadata.closure([hash]);
    for (let at = 0; at < hashes.length; at += PAGE)
      yield await upkeep.findPaths(hashes.slice(at, at + PAGE));
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

    async fetch(name, options = {}) {
      const { signal, onProgress } = options;
      const pin = await get(name);
      if (pin === null) throw new PinError('unknown', `There is no pin ${JSON.stringify(name)}`);
      const root = await paths.find(pin.hash);
      // What was not known when it was put, or could not be looked up then.
      if (root.kind === 'found') {
        await lookUpClosure(
          paths,
          pin.hash,
          root.known.path.references,
          signal === undefined ? {} : { signal },
        );
      }
      await upkeep.refreshPins(platform.clock.now());
      await spare(pin.hash);
      const total = (await metadata.closure([pin.hash])).length;
      const failed = new Map<string, string>();
      const turns = createTurns(FILLS_AT_ONCE);
      let stored = 0;

      async function fill(key: string): Promise<void> {
        signal?.throwIfAborted();
        const filling = fills.join(key, { leader: false });
        const letGo = filling.keep();
        try {
          const end = await filling.done;
          if (end.kind === 'committed') stored += 1;
          if (end.kind === 'committed' || end.kind === 'stored') return;
          failed.set(key, reasonOf(end));
        } finally {
          letGo();
        }
      }

      // An eviction that had begun before the pin was there may take a body away behind our back: once more, then.
      for (let look = 0; look < LOOKS; look += 1) {
        let done = 0;
        let absent = 0;
        failed.clear();
        for await (const page of closurePages(pin.hash)) {
          const filling = page.map(({ nar }) =>
            turns.take(async () => {
              if (nar.state !== 'present') {
                absent += 1;
                await fill(nar.key);
              }
              done += 1;
              onProgress?.({ done, total });
            }),
          );
          const ends = await Promise.allSettled(filling);
          for (const end of ends) if (end.status === 'rejected') throw end.reason;
        }
        if (absent === 0 || failed.size === absent) break;
      }
      return { stored, failed: [...failed].slice(0, MOST_LISTED), failures: failed.size };
    },
  };
}

function reasonOf(end: Exclude<FillEnd, { readonly kind: 'committed' | 'stored' }>): string {
  switch (end.kind) {
    case 'unsaved':
      return end.why;
    case 'failed':
      return end.error.message;
    case 'missing':
    case 'unclaimed':
      return 'no source has it';
  }
}

/** How often the closure is looked through. */
const LOOKS = 3;
