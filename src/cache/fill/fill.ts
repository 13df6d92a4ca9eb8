import type { NarRecord } from '../../database/metadata-store.ts';
import { type ByteStream, leave } from '../../stream/byte-stream.ts';
import { isCompression } from '../../nar/decompress.ts';
import type { OpenedNar } from '../../upstream/upstreams.ts';
import { BodyMismatchError, CacheError } from '../errors.ts';
import { faultOf } from '../faults.ts';
import { type BodyVerifier, createBodyVerifier } from './body-verifier.ts';
import { type Claim, findClaim } from './claim.ts';
import { commit } from './commit.ts';
import { type FillLock, heartbeat, lockFill, unlockFill } from './fill-lock.ts';
import { Flight } from './flight.ts';
import type { FillContext } from './fills.ts';
import { noteMissingBody } from './missing-body.ts';
import { announcedWrong, refuse } from './refuse.ts';
import { resuming } from './resume.ts';
import { giveUp, makeRoom } from './room.ts';

/** What those who wait for a fill learn as soon as the upstream has answered. */
export type FillOpening =
  /** The body is on its way in; read the flight. */
  | { readonly kind: 'flight'; readonly flight: Flight }
  /** Another process stored it in the meantime: read the store. */
  | { readonly kind: 'stored' }
  /** Every source that counts said no. */
  | { readonly kind: 'missing' }
  /** It can be had, but not be kept: each reader opens it for itself. */
  | { readonly kind: 'unsaved'; readonly claim: Claim }
  /** No path vouches for it: each reader opens it for itself. */
  | { readonly kind: 'unclaimed' };

/**
 * One download-and-store of one NAR: found, opened, streamed to all its readers and verified at once, then
 * committed. Registered by key before its first wait, so that one process makes one upstream request.
 */
export class Fill {
  readonly key: string;
  /** Rejects with the CacheError that the readers shall see. */
  readonly opening: Promise<FillOpening>;
  /** Resolves when nothing of the fill is left to do; never rejects. */
  readonly done: Promise<void>;
  readonly #context: FillContext;
  readonly #cancel = new AbortController();
  readonly #opened: PromiseWithResolvers<FillOpening> = Promise.withResolvers();

  constructor(context: FillContext, key: string) {
    this.#context = context;
    this.key = key;
    this.opening = this.#opened.promise;
    this.opening.catch(() => undefined);
    this.done = this.#run();
  }

  /** Drops the fill; its readers get the reason. What is verified already is still committed. */
  cancel(reason: CacheError): void {
    this.#cancel.abort(reason);
  }

  async #run(): Promise<void> {
    const { services } = this.#context;
    let lock: FillLock = { kind: 'uncoordinated' };
    try {
      const claimed = await findClaim(services, this.#context.paths, this.key);
      switch (claimed.kind) {
        case 'unclaimed':
          this.#opened.resolve(claimed);
          return;
        case 'quarantined':
          this.#opened.resolve({ kind: 'missing' });
          return;
        case 'other encoding':
          this.#unsaved(claimed.claim, 'the index has another encoding of its path');
          return;
        case 'claimed':
      }
      const { claim, recorded } = claimed;
      lock = await lockFill(services, this.key, this.#cancel.signal);
      if (await this.#isStored(recorded)) this.#opened.resolve({ kind: 'stored' });
      else if (lock.kind === 'taken') this.#unsaved(claim, 'another instance fills it');
      else await this.#download(claim, lock);
    } catch (error) {
      this.#opened.reject(faultOf(error));
    } finally {
      // Before the lock service is told, which may take its time: what this fill found out is no news any more.
      this.#context.onSettled(this);
      await unlockFill(services, lock);
    }
  }

  #unsaved(claim: Claim, why: string): void {
    this.#context.services.platform.logger.debug('A NAR passes through unsaved', { key: this.key, why });
    this.#context.onEnd('unsaved');
    this.#opened.resolve({ kind: 'unsaved', claim });
  }

  /** Looks again, now that the lock is ours: others may have stored it, or what was stored may be gone. */
  async #isStored(recorded: NarRecord): Promise<boolean> {
    const { storage, platform } = this.#context.services;
    try {
      if ((await storage.head(this.key)) !== null) return true;
    } catch (error) {
      platform.logger.warn('The storage could not be asked for a NAR', { key: this.key, error });
      return false;
    }
    await noteMissingBody(this.#context, recorded);
    return false;
  }

  async #download(claim: Claim, lock: FillLock): Promise<void> {
    const { services, sources } = this.#context;
    const { compression, fileSize } = claim.expected;
    const unfit = isCompression(compression)
      ? this.#unfit(fileSize)
      : `compression ${compression} is unknown`;
    if (unfit !== null) {
      this.#unsaved(claim, unfit);
      return;
    }
    const opened = await sources.open(claim, { signal: this.#cancel.signal });
    if (opened.kind === 'fault') throw faultOf(opened.fault);
    if (opened.kind !== 'found') {
      this.#opened.resolve({ kind: 'missing' });
      return;
    }
    const size = claim.expected.fileSize ?? opened.size;
    const refusal = announcedWrong(claim.expected, opened) ?? this.#unfit(size);
    const expected = { ...claim.expected, fileSize: size };
    const room = refusal === null ? await makeRoom(this.#context, expected, size) : null;
    const { verify } = services.settings;
    const verifier = room === null ? null : createBodyVerifier(expected, verify, this.#context.buffers);
    if (room === null || verifier === null) {
      await giveUp(room);
      await leave(opened.body);
      if (refusal instanceof BodyMismatchError) {
        this.#refuse(claim, opened.upstream, refusal);
        throw refusal;
      }
      this.#unsaved(claim, refusal ?? 'no room in the spool or for its decoder');
      return;
    }
    const flight = new Flight(room.file, size, {
      onUnread: () => this.#unread(flight),
      onDiscarded: () => room.release(),
    });
    this.#opened.resolve({ kind: 'flight', flight });
    try {
      const body = this.#wholeBody(claim, opened);
      await this.#receive(body, flight, verifier, room.bytes, heartbeat(services, lock));
      const verified = await verifier.finish();
      verifier.abort();
      flight.verified();
      this.#context.onEnd('verified');
      await commit(this.#context, claim, flight, verified);
    } catch (error) {
      verifier.abort();
      const fault = faultOf(this.#cancel.signal.aborted ? this.#cancel.signal.reason : error);
      if (fault instanceof BodyMismatchError) this.#refuse(claim, opened.upstream, fault);
      flight.fail(fault);
      this.#context.onEnd(fault.code);
      services.platform.logger.warn('A fill failed', {
        key: this.key,
        upstream: opened.upstream,
        received: flight.written,
        error: fault,
      });
    } finally {
      services.platform.metrics.count(
        'snowcap_fill_bytes_total',
        { upstream: opened.upstream },
        flight.written,
      );
      this.#context.onSettled(this);
      flight.finish();
    }
  }

  async #receive(
    body: ByteStream,
    flight: Flight,
    verifier: BodyVerifier,
    room: number,
    beat: () => void,
  ): Promise<void> {
    for await (const chunk of body) {
      if (flight.written + chunk.length > room) {
        throw new BodyMismatchError('size', `${this.key} is larger than any encoding of its NAR`);
      }
      const checked = verifier.push(chunk);
      checked.catch(() => undefined);
      await flight.append(chunk);
      await checked;
      beat();
    }
  }

  /** The body, taken up again where its connection broke, if its upstream still has the same. */
  #wholeBody(claim: Claim, opened: OpenedNar & { kind: 'found' }): ByteStream {
    const { upstreams } = this.#context.services;
    const { source } = claim.nar;
    if (source === null || source.upstream !== opened.upstream || opened.size === null) return opened.body;
    return resuming(opened.body, async (start) => {
      const rest = await upstreams.openNar(source, { range: { start }, signal: this.#cancel.signal });
      if (rest.kind !== 'found') return null;
      if (rest.range?.start === start && rest.size === opened.size && rest.etag === opened.etag)
        return rest.body;
      await leave(rest.body);
      return null;
    });
  }

  #unfit(size: number | null): string | null {
    const { maxBodySize } = this.#context.services.settings;
    return size !== null && size > maxBodySize ? `larger than the budget of ${maxBodySize} bytes` : null;
  }

  #unread(flight: Flight): void {
    const { platform } = this.#context.services;
    if (platform.fillsOutliveClients && flight.spoolFault === undefined) return;
    this.cancel(new CacheError('fault', 'upstream_unreachable', `Nobody waits for ${this.key} any more`));
  }

  #refuse(claim: Claim, upstream: string, error: BodyMismatchError): void {
    refuse(this.#context, { key: this.key, storePath: claim.path.storePath, upstream, error });
  }
}
