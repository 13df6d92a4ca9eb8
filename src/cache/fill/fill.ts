import type { NarRecord } from '../../database/metadata-store.ts';
import { isCompression } from '../../nar/decompress.ts';
import { leave } from '../../stream/byte-stream.ts';
import { activeSpan, type SpanContext, traced } from '../../telemetry/tracing.ts';
import { BodyMismatchError, type CacheError } from '../errors.ts';
import { faultOf } from '../faults.ts';
import { createBodyVerifier, type ExpectedBody } from './body-verifier.ts';
import { type Claim, type ClaimAnswer, findClaim } from './claim.ts';
import type { WorkLock } from '../work-lock.ts';
import type { FillContext } from './fills.ts';
import type { Flight } from './flight.ts';
import { Landing } from './landing.ts';
import { noteMissingBody } from './missing-body.ts';
import { announcedWrong, refuse } from './refuse.ts';
import { giveUp, makeRoom, type Room } from './room.ts';
import { isWorthWaiting, waitForOther } from './wait-for-other.ts';

/** What those who wait for a fill learn as soon as the upstream has answered. */
export type FillOpening =
  /** The body is on its way in; read the flight. */
  | { readonly kind: 'flight'; readonly flight: Flight; readonly claim: Claim }
  /** Another process stored it in the meantime: read the store. */
  | { readonly kind: 'stored' }
  /** Every source that counts said no. */
  | { readonly kind: 'missing' }
  /** It can be had, but not be kept: each reader opens it for itself. */
  | { readonly kind: 'unsaved'; readonly claim: Claim }
  /** No path vouches for it: each reader opens it for itself. */
  | { readonly kind: 'unclaimed' };

/** How a fill ended, for those who want the NAR stored and do not read it. */
export type FillEnd =
  /** In storage and in the index, by this fill. */
  | { readonly kind: 'committed' }
  /** It was, or is, stored by another. */
  | { readonly kind: 'stored' }
  | { readonly kind: 'missing' }
  | { readonly kind: 'unclaimed' }
  /** @property again whether another attempt may succeed */
  | { readonly kind: 'unsaved'; readonly why: string; readonly again: boolean }
  | { readonly kind: 'failed'; readonly error: CacheError };

export interface FillOptions {
  /** Whether the one who begins it is going to read it, and calls `led`. */
  readonly leader: boolean;
  /** What claims the key, where that is known already. */
  readonly claimed?: ClaimAnswer;
}

/**
 * One download-and-store of one NAR: found, opened, streamed to all its readers and verified at once, then
 * committed. Registered by key before its first wait, so that one process makes one upstream request.
 */
export class Fill {
  readonly key: string;
  /** Rejects with the CacheError that the readers shall see. */
  readonly opening: Promise<FillOpening>;
  /** Resolves when nothing of the fill is left to do; never rejects. */
  readonly done: Promise<FillEnd>;
  /** For the traces of those who follow it; undefined where it is not traced. */
  span: SpanContext | undefined;
  readonly #context: FillContext;
  readonly #cancel = new AbortController();
  readonly #opened: PromiseWithResolvers<FillOpening> = Promise.withResolvers();
  readonly #led: PromiseWithResolvers<void> = Promise.withResolvers();
  #keepers = 0;
  #landing: Landing | undefined;

  constructor(context: FillContext, key: string, options: FillOptions) {
    this.#context = context;
    this.key = key;
    this.opening = this.#opened.promise;
    this.opening.catch(() => undefined);
    if (!options.leader) this.led();
    this.done = traced('fill', { 'snowcap.key': key }, () => {
      this.span = activeSpan();
      return this.#run(options.claimed);
    });
  }

  /** Drops the fill; its readers get the reason. What is verified already is still committed. */
  cancel(reason: CacheError): void {
    this.#cancel.abort(reason);
  }

  /** The one who began it reads the flight by now, or will not. A body without a spool does not begin before. */
  led(): void {
    this.#led.resolve();
  }

  /**
   * Keeps the fill going with no reader, where those do not outlive their clients.
   *
   * @returns ends that
   */
  keep(): () => void {
    this.#keepers += 1;
    let kept = true;
    return () => {
      if (kept) this.#keepers -= 1;
      kept = false;
      this.#landing?.readersLeft();
    };
  }

  async #run(known: ClaimAnswer | undefined): Promise<FillEnd> {
    const { services } = this.#context;
    let lock: WorkLock = { kind: 'uncoordinated' };
    try {
      const claimed = known ?? (await findClaim(services, this.#context.paths, this.key));
      switch (claimed.kind) {
        case 'unclaimed':
          this.#opened.resolve(claimed);
          return claimed;
        case 'quarantined':
          return this.#missing();
        case 'other encoding':
          return this.#unsaved(claimed.claim, 'the index has another encoding of its path', false);
        case 'claimed':
      }
      const { claim, recorded } = claimed;
      lock = await this.#context.locks.take(this.key, 0, this.#cancel.signal);
      if (await this.#isStored(recorded)) return this.#stored();
      if (lock.kind === 'taken') {
        const other = await this.#waitForOther(claim);
        if (other.kind === 'stored') return this.#stored();
        lock = other;
      }
      if (lock.kind === 'taken') return this.#unsaved(claim, 'another instance fills it', true);
      return await this.#download(claim);
    } catch (error) {
      const fault = faultOf(error);
      this.#opened.reject(fault);
      return { kind: 'failed', error: fault };
    } finally {
      // Before the lock service is told, which may take its time: what this fill found out is no news any more.
      this.#context.onSettled(this);
      if (lock.kind === 'held') await lock.release();
    }
  }

  #missing(): FillEnd {
    this.#opened.resolve({ kind: 'missing' });
    return { kind: 'missing' };
  }

  #stored(): FillEnd {
    this.#opened.resolve({ kind: 'stored' });
    return { kind: 'stored' };
  }

  #unsaved(claim: Claim, why: string, again: boolean): FillEnd {
    this.#context.services.platform.logger.debug('A NAR passes through unsaved', { key: this.key, why });
    this.#context.onEnd('unsaved');
    this.#opened.resolve({ kind: 'unsaved', claim });
    return { kind: 'unsaved', why, again };
  }

  /** Looks again, now that the lock is asked for: others may have stored it, or what was stored may be gone. */
  async #isStored(recorded: NarRecord | null): Promise<boolean> {
    const { storage, platform } = this.#context.services;
    try {
      if ((await storage.head(this.key)) !== null) return true;
    } catch (error) {
      platform.logger.warn('The storage could not be asked for a NAR', { key: this.key, error });
      return false;
    }
    if (recorded !== null) await noteMissingBody(this.#context, recorded);
    return false;
  }

  async #waitForOther({ expected }: Claim): Promise<{ readonly kind: 'stored' } | WorkLock> {
    const { platform, settings } = this.#context.services;
    const waitMs = settings.fillWaitMs;
    if (!isWorthWaiting(expected, waitMs)) return { kind: 'taken' };
    return await waitForOther({
      platform,
      locks: this.#context.locks,
      key: this.key,
      waitMs,
      isStored: () => this.#isStored(null),
      signal: this.#cancel.signal,
    });
  }

  async #download(claim: Claim): Promise<FillEnd> {
    const { services, sources } = this.#context;
    const { compression, fileSize } = claim.expected;
    const unfit = isCompression(compression)
      ? this.#unfit(fileSize)
      : `compression ${compression} is unknown`;
    if (unfit !== null) return this.#unsaved(claim, unfit, false);
    // Where the size is known, before an upstream is asked: an answer that finds no room is thrown away.
    let room = fileSize === null ? null : await this.#makeRoom(claim.expected, fileSize);
    if (fileSize !== null && room === null) return this.#noRoom(claim);
    const opened = await sources
      .open(claim, { signal: this.#cancel.signal })
      .catch(async (error: unknown) => {
        await giveUp(room);
        throw error;
      });
    if (opened.kind !== 'found') {
      await giveUp(room);
      if (opened.kind === 'fault') throw faultOf(opened.fault);
      return this.#missing();
    }
    const size = fileSize ?? opened.size;
    const refusal = announcedWrong(claim.expected, opened) ?? this.#unfit(size);
    const expected = { ...claim.expected, fileSize: size };
    if (refusal === null) room ??= await this.#makeRoom(expected, size);
    const { verify } = services.settings;
    const verifier =
      refusal !== null || room === null ? null : createBodyVerifier(expected, verify, this.#context.buffers);
    if (room === null || verifier === null) {
      await giveUp(room);
      await leave(opened.body);
      if (refusal instanceof BodyMismatchError) {
        refuse(this.#context, {
          key: this.key,
          storePath: claim.path.storePath,
          upstream: opened.upstream,
          error: refusal,
        });
        throw refusal;
      }
      return refusal === null ? this.#noRoom(claim) : this.#unsaved(claim, refusal, false);
    }
    const landing = new Landing(this.#context, {
      claim,
      opened,
      size,
      room,
      verifier,
      cancel: this.#cancel,
      isKept: () => this.#keepers > 0,
      settled: () => this.#context.onSettled(this),
    });
    this.#landing = landing;
    this.#opened.resolve({ kind: 'flight', flight: landing.flight, claim });
    return await landing.run(this.#led.promise);
  }

  /** @param size bytes of the encoded body; null where unknown */
  #makeRoom(expected: ExpectedBody, size: number | null): Promise<Room | null> {
    return makeRoom(this.#context, expected, size, () => this.#landing?.readersLeft());
  }

  /** Elsewhere, or later, there may be room. Who keeps the fill learns of it, and tries again itself. */
  #noRoom(claim: Claim): FillEnd {
    if (this.#keepers === 0) this.#context.schedule.add({ kind: 'fill', key: this.key });
    return this.#unsaved(claim, 'no room for it, or for its decoder', true);
  }

  #unfit(size: number | null): string | null {
    const { maxSize } = this.#context.services.settings;
    return size !== null && size > maxSize ? `larger than the budget of ${maxSize} bytes` : null;
  }
}
