import { type ByteStream, leave, sliced, withCleanup } from '../stream/byte-stream.ts';
import type { OpenedNar, OpenNarOptions } from '../upstream/upstreams.ts';
import type { Reservation, Budget } from './budget.ts';
import { BodyMismatchError, CacheError } from './errors.ts';
import { faultOf } from './faults.ts';
import { type BodyVerifier, createBodyVerifier, createFileVerifier } from './fill/body-verifier.ts';
import { type Claim, findClaim } from './fill/claim.ts';
import { HOLD_BACK_BYTES } from './fill/flight.ts';
import { heldBack } from './fill/hold-back.ts';
import { announcedWrong, refuse } from './fill/refuse.ts';
import type { Sources } from './fill/sources.ts';
import type { PathFinder } from './find-path.ts';
import type { NarAnswer, NarBody, NarRequest } from './get-nar.ts';
import { parseFileHashKey } from './nar-key.ts';
import { resolveRange } from '../storage/blob-store.ts';
import type { CacheServices } from './services.ts';

/**
 * Bodies that pass through to one client and are not kept: no path vouches for them, or there is no
 * room. Where a path vouches for the whole, it is verified all the same.
 */
export interface Passage {
  /** A key that no path claims: whatever the upstreams have under the same path, verified where the key names a FileHash. */
  unclaimed(request: NarRequest): Promise<NarAnswer>;
  /** A body that could be kept, but not now. */
  claimed(claim: Claim, request: NarRequest): Promise<NarAnswer>;
  /** The same where the claim is still to be found. */
  claimedByKey(request: NarRequest): Promise<NarAnswer>;
  /**
   * A range of a claimed body, straight from an upstream that gives ranges; null where none does now. Nothing of it is
   * verified: it must not reach into the last piece of the body.
   *
   * @param size bytes of the whole body
   */
  rangeAhead(request: NarRequest, range: Piece, size: number): Promise<NarBody | null>;
}

export interface PassageParts {
  readonly services: CacheServices;
  readonly paths: PathFinder;
  readonly sources: Sources;
  readonly buffers: Budget;
}

/** What one passage holds at most: the piece held back, a chunk from the upstream, one on its way to the client. */
const PASSAGE_BYTES = HOLD_BACK_BYTES + 2 * 64 * 1024;

/** First and last byte of a piece that ends before the body does, both inclusive. */
interface Piece {
  readonly start: number;
  readonly end: number;
}

type Found = OpenedNar & { readonly kind: 'found' };

export function createPassage({ services, paths, sources, buffers }: PassageParts): Passage {
  const { upstreams } = services;

  async function through(
    open: () => Promise<OpenedNar>,
    answer: (opened: Found, room: Reservation) => NarAnswer,
  ): Promise<NarAnswer> {
    const room = buffers.reserve(PASSAGE_BYTES);
    if (room === null) return busy();
    let handedOver = false;
    try {
      const opened = await open();
      if (opened.kind === 'fault') throw faultOf(opened.fault);
      if (opened.kind !== 'found') return opened;
      try {
        const result = answer(opened, room);
        handedOver = result.kind === 'body';
        return result;
      } finally {
        if (!handedOver) await leave(opened.body);
      }
    } finally {
      if (!handedOver) room.release();
    }
  }

  /** A body as it comes, whole or ranged, with the range cut here where the upstream did not. */
  function asItComes(request: NarRequest, opened: Found, room: Reservation): NarAnswer {
    const cut =
      request.range !== undefined && opened.range === null && opened.size !== null
        ? resolveRange(request.range, opened.size)
        : undefined;
    if (cut === null) return { kind: 'unsatisfiable', size: opened.size };
    const stream = cut === undefined ? opened.body : sliced(opened.body, cut.start, cut.end);
    return bodyOf(opened, cut ?? opened.range, stream, room);
  }

  /** A whole body whose hash is known, verified on its way and cut to the range that was asked for. */
  function verified(
    request: NarRequest,
    opened: Found,
    room: Reservation,
    verification: {
      readonly size: number | null;
      verifier(): BodyVerifier;
      onWrong(error: BodyMismatchError): void;
    },
  ): NarAnswer {
    const { size } = verification;
    const { range } = request;
    const cut = size === null || range === undefined ? undefined : resolveRange(range, size);
    if (cut === null) return { kind: 'unsatisfiable', size };
    const verifier = verification.verifier();
    const whole = reporting(heldBack(opened.body, verifier, size), (error) => {
      if (error instanceof BodyMismatchError) verification.onWrong(error);
    });
    const stream = cut === undefined ? whole : sliced(whole, cut.start, cut.end);
    return bodyOf({ ...opened, size }, cut ?? null, stream, room, verifier);
  }

  /** @throws BodyMismatchError where the length that the upstream announces is that of another body */
  function assertAnnounced(claim: Claim, size: number | null, opened: Found): void {
    const error = announcedWrong({ key: claim.nar.key, fileSize: size }, opened);
    if (error !== null) throw refused(claim, opened.upstream, error);
  }

  function refused(claim: Claim, upstream: string, error: BodyMismatchError): BodyMismatchError {
    const { key } = claim.nar;
    refuse({ services, sources }, { key, storePath: claim.path.storePath, upstream, error });
    return error;
  }

  /**
   * A piece from the middle of a claimed body of `size` bytes, as it comes; null where the upstream gives the whole
   * instead.
   */
  function pieceAsItComes(
    claim: Claim,
    piece: Piece,
    size: number,
    opened: Found,
    room: Reservation,
  ): NarAnswer | null {
    const { range, upstream } = opened;
    if (range === null) return null;
    assertAnnounced(claim, size, opened);
    if (range.start !== piece.start || range.end !== piece.end) {
      const asked = `bytes ${piece.start}-${piece.end} of ${claim.nar.key}`;
      const why = `${upstream} gives bytes ${range.start}-${range.end} for ${asked}`;
      throw refused(claim, upstream, new BodyMismatchError('size', why));
    }
    return bodyOf({ ...opened, size }, range, opened.body, room);
  }

  function wholeOfClaim(claim: Claim, request: NarRequest, opened: Found, room: Reservation): NarAnswer {
    const { expected } = claim;
    assertAnnounced(claim, expected.fileSize, opened);
    const size = expected.fileSize ?? opened.size;
    return verified(request, opened, room, {
      size,
      verifier: () =>
        createBodyVerifier({ ...expected, fileSize: size }, services.settings.verify, buffers) ?? busy(),
      onWrong: (error) => refused(claim, opened.upstream, error),
    });
  }

  async function claimed(claim: Claim, request: NarRequest): Promise<NarAnswer> {
    const { fileSize } = claim.expected;
    const piece = pieceOf(request.range, fileSize);
    if (piece !== null && fileSize !== null) {
      const answer = await through(
        () => sources.open(claim, optionsOf(request)),
        (opened, room) =>
          pieceAsItComes(claim, piece, fileSize, opened, room) ?? wholeOfClaim(claim, request, opened, room),
      );
      // To whom the piece lies beyond the end, that one has another body: which its whole will tell.
      if (answer.kind !== 'unsatisfiable') return answer;
    }
    return await through(
      () => sources.open(claim, wholeOf(request)),
      (opened, room) => wholeOfClaim(claim, request, opened, room),
    );
  }

  async function unclaimed(request: NarRequest): Promise<NarAnswer> {
    const { key, query } = request;
    const fileHash = query === '' ? parseFileHashKey(key) : null;
    if (fileHash === null) {
      return await through(
        () => upstreams.findNar(key + query, optionsOf(request)),
        (opened, room) => asItComes(request, opened, room),
      );
    }
    return await through(
      () => upstreams.findNar(key, wholeOf(request)),
      (opened, room) =>
        verified(request, opened, room, {
          size: opened.size,
          verifier: () => createFileVerifier(key, fileHash),
          onWrong: (error) =>
            refuse({ services, sources }, { key, storePath: null, upstream: opened.upstream, error }),
        }),
    );
  }

  async function claimedByKey(request: NarRequest): Promise<NarAnswer> {
    const found = await findClaim(services, paths, request.key);
    if (found.kind === 'quarantined') return { kind: 'missing' };
    return found.kind === 'unclaimed' ? await unclaimed(request) : await claimed(found.claim, request);
  }

  return {
    unclaimed,
    claimed,
    claimedByKey,
    async rangeAhead(request, range, size) {
      try {
        const found = await findClaim(services, paths, request.key);
        if (found.kind !== 'claimed') return null;
        const answer = await through(
          () => sources.open(found.claim, { ...wholeOf(request), range }),
          (opened, room) => pieceAsItComes(found.claim, range, size, opened, room) ?? { kind: 'missing' },
        );
        return answer.kind === 'body' ? answer : null;
      } catch (error) {
        if (!(error instanceof CacheError)) throw error;
        services.platform.logger.info('A range could not be read ahead of its fill', {
          key: request.key,
          error,
        });
        return null;
      }
    },
  };
}

/** @throws CacheError always */
function busy(): never {
  throw new CacheError('busy', 'too_many_transfers', 'Too many transfers are under way: try again soon');
}

function bodyOf(
  opened: Found,
  range: { readonly start: number; readonly end: number } | null,
  body: ByteStream,
  room: Reservation,
  verifier?: BodyVerifier,
): NarBody {
  const stream = withCleanup(body, () => {
    room.release();
    // A generator that was never started does not close what it works with.
    verifier?.abort();
    void leave(opened.body).catch(() => undefined);
  });
  return { kind: 'body', outcome: 'upstream', size: opened.size, range, body: { kind: 'stream', stream } };
}

function optionsOf({ range, signal }: NarRequest): OpenNarOptions {
  return { ...(range === undefined ? {} : { range }), ...(signal === undefined ? {} : { signal }) };
}

/** The same request without its range. */
function wholeOf({ key, query, signal }: NarRequest): OpenNarOptions {
  return optionsOf({ key, query, ...(signal === undefined ? {} : { signal }) });
}

/**
 * The range as a piece without the last byte: with that a client may believe that it has the whole, so the whole is
 * verified, although that means to read it all. Pieces from the middle pass as they come.
 *
 * @param size bytes of the whole; null where unknown
 */
function pieceOf(range: NarRequest['range'], size: number | null): Piece | null {
  if (range === undefined || 'suffix' in range || range.end === undefined) return null;
  return size === null || range.end >= size - 1 ? null : { start: range.start, end: range.end };
}

/** Tells of the error that ends the stream, and passes it on. */
async function* reporting(
  stream: ByteStream,
  onError: (error: unknown) => void,
): AsyncGenerator<Uint8Array, void, void> {
  try {
    yield* stream;
  } catch (error) {
    onError(error);
    throw error;
  }
}
