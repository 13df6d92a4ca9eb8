import type { ByteStream } from '../../stream/byte-stream.ts';
import { leave } from '../../stream/byte-stream.ts';
import { traced } from '../../telemetry/tracing.ts';
import type { OpenedNar } from '../../upstream/upstreams.ts';
import { BodyMismatchError, CacheError } from '../errors.ts';
import { faultOf } from '../faults.ts';
import type { BodyVerifier, VerifiedBody } from './body-verifier.ts';
import type { Claim } from './claim.ts';
import { commit } from './commit.ts';
import type { FillEnd } from './fill.ts';
import type { FillContext } from './fills.ts';
import { Flight } from './flight.ts';
import { refuse } from './refuse.ts';
import { resuming } from './resume.ts';
import type { Room } from './room.ts';

export interface LandingParts {
  readonly claim: Claim;
  readonly opened: OpenedNar & { readonly kind: 'found' };
  /** Bytes of the whole body; null where unknown. */
  readonly size: number | null;
  readonly room: Room;
  readonly verifier: BodyVerifier;
  /** Of the fill. Aborted with the CacheError that the readers shall see. */
  readonly cancel: AbortController;
  /** Whether somebody wants the NAR stored although nobody reads it. */
  isKept(): boolean;
  /** The body has come in, or it will not: new readers begin anew. */
  settled(): void;
}

/** The second half of a fill: a body on its way from an upstream to its readers and to the store. */
export class Landing {
  readonly flight: Flight;
  readonly #context: FillContext;
  readonly #parts: LandingParts;
  readonly #key: string;
  /** Whether the one who began the fill reads it, or is known not to: before, that nobody reads it means nothing. */
  #begun = false;

  constructor(context: FillContext, parts: LandingParts) {
    const { room, size, claim, cancel } = parts;
    this.#context = context;
    this.#parts = parts;
    this.#key = claim.nar.key;
    this.flight = new Flight(room.file, size, {
      onUnread: () => this.readersLeft(),
      onDiscarded: () => room.release(),
    });
    // Also where it stands still for a reader or for the store. What is verified already is still stored.
    const drop = (): void => {
      const reason = faultOf(cancel.signal.reason);
      if (this.flight.fail(reason)) room.abort(reason);
    };
    if (cancel.signal.aborted) drop();
    cancel.signal.addEventListener('abort', drop, { once: true });
  }

  /**
   * Reads the body to its end, and commits it.
   *
   * @param led resolves when the one reader of a body without a spool is there, or does not come
   */
  async run(led: Promise<void>): Promise<FillEnd> {
    const { flight } = this;
    const { claim, opened, room, verifier, cancel, settled } = this.#parts;
    const { platform } = this.#context.services;
    const begun = led.then(() => {
      this.#begun = true;
      this.readersLeft();
    });
    try {
      if (room.file === null) await begun;
      await this.#receive();
      const verified = await verifier.finish();
      verifier.abort();
      flight.verified();
      this.#context.onEnd('verified');
      return await traced('commit', { 'snowcap.key': this.#key }, () => this.#commit(verified));
    } catch (error) {
      verifier.abort();
      const fault = faultOf(cancel.signal.aborted ? cancel.signal.reason : error);
      if (fault instanceof BodyMismatchError) {
        const { storePath } = claim.path;
        refuse(this.#context, { key: this.#key, storePath, upstream: opened.upstream, error: fault });
      }
      flight.fail(fault);
      room.abort(fault);
      // Where it was not read at all.
      await leave(opened.body).catch(() => undefined);
      this.#context.onEnd(fault.code);
      platform.logger.warn('A fill failed', {
        key: this.#key,
        upstream: opened.upstream,
        received: flight.written,
        error: fault,
      });
      return { kind: 'failed', error: fault };
    } finally {
      platform.metrics.count('snowcap_fill_bytes_total', { upstream: opened.upstream }, flight.written);
      settled();
      flight.finish();
    }
  }

  /**
   * Nobody reads it now. It goes on where that is worth something: for the store, and in a process that lives on or for
   * one who keeps it. Else it is dropped, and handed over to where it can be stored.
   */
  readersLeft(): void {
    const { flight } = this;
    const { room, isKept, cancel } = this.#parts;
    if (!this.#begun || !flight.isUnread) return;
    const { fillsOutliveClients } = this.#context.services.platform;
    const storable = flight.spoolFault === undefined && room.fault === undefined;
    if (storable && (fillsOutliveClients || isKept())) return;
    const reason = new CacheError('fault', 'upstream_unreachable', `Nobody waits for ${this.#key} any more`);
    if (!flight.fail(reason)) return;
    room.abort(reason);
    cancel.abort(reason);
    // Who keeps it learns of it, and tries again itself.
    if (!isKept()) this.#context.schedule.add({ kind: 'fill', key: this.#key });
  }

  async #receive(): Promise<void> {
    const { flight } = this;
    const { room, verifier, cancel } = this.#parts;
    const { maxSize } = this.#context.services.settings;
    for await (const chunk of this.#wholeBody()) {
      cancel.signal.throwIfAborted();
      if (flight.written + chunk.length > room.bytes) {
        throw new BodyMismatchError('size', `${this.#key} is larger than any encoding of its NAR`);
      }
      if (flight.written + chunk.length > maxSize) room.abort(tooLarge(maxSize));
      const checked = verifier.push(chunk);
      checked.catch(() => undefined);
      // The slower of the readers and the store sets the pace, where there is no spool between them.
      await Promise.all([flight.append(chunk), room.push(chunk)]);
      await checked;
    }
  }

  /** The body, taken up again where its connection broke, if its upstream still has the same. */
  #wholeBody(): ByteStream {
    const { claim, opened, cancel } = this.#parts;
    const { upstreams } = this.#context.services;
    const { source } = claim.nar;
    if (source === null || source.upstream !== opened.upstream || opened.size === null) return opened.body;
    return resuming(opened.body, async (start) => {
      const rest = await upstreams.openNar(source, { range: { start }, signal: cancel.signal });
      if (rest.kind !== 'found') return null;
      if (rest.range?.start === start && rest.size === opened.size && rest.etag === opened.etag)
        return rest.body;
      await leave(rest.body);
      return null;
    });
  }

  /** Readers have the body already: whatever fails here is logged and costs a later download, never an answer. */
  async #commit(verified: VerifiedBody): Promise<FillEnd> {
    const { flight } = this;
    const { claim, room } = this.#parts;
    const { platform, settings } = this.#context.services;
    // Nobody could tell before: neither a FileSize nor a Content-Length was given.
    if (verified.fileSize > settings.maxSize) {
      const why = tooLarge(settings.maxSize);
      room.abort(why);
      return { kind: 'unsaved', why: why.message, again: false };
    }
    try {
      if (flight.spoolFault !== undefined) throw flight.spoolFault;
      const committed = await commit(this.#context, claim, () => room.store(), verified);
      switch (committed.kind) {
        case 'stored':
          return { kind: 'committed' };
        case 'second':
          return { kind: 'stored' };
        case 'quarantined':
          return { kind: 'missing' };
        case 'evicted':
          return { kind: 'unsaved', why: 'it was evicted while it was stored', again: true };
      }
    } catch (error) {
      platform.metrics.count('snowcap_background_failures_total', { what: 'commit' });
      platform.logger.error('A verified body could not be stored', { key: this.#key, error });
      return { kind: 'unsaved', why: 'it could not be stored', again: true };
    }
  }
}

function tooLarge(limit: number): Error {
  return new Error(`It is larger than the budget of ${limit} bytes`);
}
