import { isKey, type BlobBody, type ByteRange, resolveRange } from '../storage/blob-store.ts';
import { type ByteStream, withCleanup } from '../stream/byte-stream.ts';
import { follows } from '../telemetry/tracing.ts';
import type { Adoption } from './adoption.ts';
import type { KeysInUse } from './evict/in-use.ts';
import type { Fill, FillOpening } from './fill/fill.ts';
import type { Fills } from './fill/fills.ts';
import { fromFlight } from './from-flight.ts';
import type { NarMemory } from './nar-memory.ts';
import type { Passage } from './passage.ts';
import type { Recency } from './recency.ts';
import type { Redirects } from './redirects.ts';
import type { CacheServices } from './services.ts';

export interface NarRequest {
  /** `nar/…`, as in the path of the URL, without its query. */
  readonly key: string;
  /** The query of the URL with its `?`, or empty. Keys of ours have none. */
  readonly query: string;
  readonly range?: ByteRange;
  /** Aborted when the client has left. Does not stop a fill that others may use. */
  readonly signal?: AbortSignal;
  /** Whether the bytes themselves are needed, whatever `delivery` says. */
  readonly direct?: boolean;
}

export type NarOutcome =
  /** From storage. */
  | 'hit'
  /** This request began the fill. */
  | 'fill'
  /** A fill that others began was followed. */
  | 'follow'
  /** Passed through from an upstream, unsaved. */
  | 'upstream';

export type NarAnswer =
  | NarBody
  | NarRedirect
  /** The range lies beyond the end. */
  | { readonly kind: 'unsatisfiable'; readonly size: number | null }
  | { readonly kind: 'missing' };

export interface NarBody {
  readonly kind: 'body';
  readonly outcome: NarOutcome;
  /** Bytes of the whole NAR as encoded; null where nobody told. */
  readonly size: number | null;
  /** The bytes that the body covers, both inclusive; null for the whole. */
  readonly range: { readonly start: number; readonly end: number } | null;
  /** Must be read to its end or left. Throws where it is not whole and right. */
  readonly body: BlobBody;
}

export interface NarRedirect {
  readonly kind: 'redirect';
  /** To the store, or to the upstream that has what is not stored yet. */
  readonly outcome: 'redirect' | 'upstream-redirect';
  readonly url: string;
}

export interface GetNarParts {
  readonly services: CacheServices;
  readonly fills: Fills;
  readonly passage: Passage;
  readonly recency: Recency;
  readonly adoption: Adoption;
  readonly narMemory: NarMemory;
  readonly redirects: Redirects;
  readonly inUse: KeysInUse;
}

/** Another process may store, and an eviction remove, between two looks; after these many the body passes unsaved. */
const MOST_LOOKS = 3;

/**
 * Answers a NAR: from storage in one read, from the fill under way, or by starting one.
 *
 * @throws CacheError where no source could tell: never a `missing`
 */
export async function getNar(parts: GetNarParts, request: NarRequest): Promise<NarAnswer> {
  if (request.query !== '' || !isKey(request.key)) return await parts.passage.unclaimed(request);
  const answer = await fromAnywhere(parts, request);
  // What a storage at fault may hold is not missing (law 5), and who followed a fill has not looked there.
  return answer.kind === 'missing' ? ((await readStored(parts, request)) ?? answer) : answer;
}

async function fromAnywhere(parts: GetNarParts, request: NarRequest): Promise<NarAnswer> {
  const { fills, passage, redirects } = parts;
  if (request.direct !== true && redirects.misses) {
    const stored = await fromStorage(parts, request);
    if (stored !== null) return stored;
    const answer = await redirects.miss(request);
    if (answer !== 'stored') return answer;
    return (await fromStorage(parts, request)) ?? (await passage.claimedByKey(request));
  }
  for (let look = 0; look < MOST_LOOKS; look++) {
    const running = fills.underway(request.key);
    if (running === undefined) {
      const stored = await fromStorage(parts, request);
      if (stored !== null) return stored;
    }
    const joined = fills.underway(request.key);
    const answer =
      joined === undefined ? await begun(parts, request) : await fromFill(parts, request, joined, 'follow');
    if (answer !== 'look again') return answer;
  }
  return await passage.claimedByKey(request);
}

/** A storage fault is logged and counts as a miss: an upstream may still have the body. */
async function fromStorage(parts: GetNarParts, request: NarRequest): Promise<NarAnswer | null> {
  try {
    return await readStored(parts, request);
  } catch (error) {
    const { key } = request;
    parts.services.platform.logger.error('The storage could not be read for a NAR', { key, error });
    return null;
  }
}

/** @throws StorageError */
async function readStored(parts: GetNarParts, { key, range, direct }: NarRequest): Promise<NarAnswer | null> {
  const remembered = parts.narMemory.get(key);
  if (remembered !== undefined) return hit(parts, key, range, remembered);
  if (direct !== true && parts.redirects.hits) {
    const redirect = await parts.redirects.hit(key);
    if (redirect !== 'no URL') {
      if (redirect !== null) used(parts, key);
      return redirect;
    }
  }
  const stored = await parts.services.storage.get(key, range === undefined ? {} : { range });
  if (stored === null || stored.kind === 'unsatisfiable') return stored;
  const { size, start, end, body } = stored;
  if (body.kind === 'bytes' && range === undefined) parts.narMemory.set(key, body.bytes);
  used(parts, key);
  const given = body.kind === 'bytes' ? body : { ...body, stream: inUseWhileRead(parts, key, body.stream) };
  return {
    kind: 'body',
    outcome: 'hit',
    size,
    range: range === undefined ? null : { start, end },
    body: given,
  };
}

/** An eviction leaves it alone: a store that is reached over a network may be asked for the rest of it once more. */
function inUseWhileRead({ inUse }: GetNarParts, key: string, stream: ByteStream): ByteStream {
  return withCleanup(stream, inUse.hold(key));
}

function hit(parts: GetNarParts, key: string, range: ByteRange | undefined, whole: Uint8Array): NarAnswer {
  const part = resolveRange(range, whole.length);
  if (part === null) return { kind: 'unsatisfiable', size: whole.length };
  used(parts, key);
  return {
    kind: 'body',
    outcome: 'hit',
    size: whole.length,
    range: range === undefined ? null : part,
    body: { kind: 'bytes', bytes: whole.subarray(part.start, part.end + 1) },
  };
}

function used({ recency, adoption }: GetNarParts, key: string): void {
  recency.touch(key);
  adoption.hit(key);
}

async function begun(parts: GetNarParts, request: NarRequest): Promise<NarAnswer | 'look again'> {
  const fill = parts.fills.join(request.key, { leader: true });
  try {
    return await fromFill(parts, request, fill, 'fill');
  } finally {
    fill.led();
  }
}

async function fromFill(
  parts: GetNarParts,
  request: NarRequest,
  fill: Fill,
  outcome: 'fill' | 'follow',
): Promise<NarAnswer | 'look again'> {
  if (outcome === 'follow') follows(fill.span);
  const opening: FillOpening = await fill.opening;
  switch (opening.kind) {
    case 'missing':
      return { kind: 'missing' };
    case 'stored':
      // By one who is about to write the index: there is nothing to adopt.
      parts.adoption.known(request.key);
      return 'look again';
    case 'unclaimed':
      return await parts.passage.unclaimed(request);
    case 'unsaved':
      return await parts.passage.claimed(opening.claim, request);
    case 'flight':
      return await fromFlight(parts, request, opening, outcome, () => fill.led());
  }
}
