import { type ByteRange, resolveRange } from '../storage/blob-store.ts';
import { type ByteStream, collect, leave, withCleanup } from '../stream/byte-stream.ts';
import { faultOf } from './faults.ts';
import type { Claim } from './fill/claim.ts';
import { type Flight, HOLD_BACK_BYTES } from './fill/flight.ts';
import type { NarAnswer, NarBody, NarOutcome, NarRequest } from './get-nar.ts';
import type { Passage } from './passage.ts';
import { streamOfBody } from './stored-bytes.ts';

export interface FromFlightParts {
  readonly passage: Passage;
}

/** A range that begins this far past what has arrived is read from the upstream itself. */
const WAIT_AHEAD_BYTES = 4 * 1024 * 1024;

/**
 * An answer from a body that is on its way in; `look again` where it is over by now.
 *
 * @param outcome `fill` for the one who began it
 * @param onRead called when a body that has one reader may begin
 */
export async function fromFlight(
  parts: FromFlightParts,
  request: NarRequest,
  { flight, claim }: { readonly flight: Flight; readonly claim: Claim },
  outcome: 'fill' | 'follow',
  onRead: () => void,
): Promise<NarAnswer | 'look again'> {
  if (flight.spoolFault !== undefined || !isFor(flight, request, outcome)) {
    return await parts.passage.claimed(claim, request);
  }
  if (!flight.joinable) return 'look again';
  if (request.range !== undefined) return await rangeOfFlight(parts, request, request.range, flight, outcome);
  const body = flight.read(0, null);
  onRead();
  const { size } = flight;
  if (size === null || size > HOLD_BACK_BYTES) {
    return { kind: 'body', outcome, size, range: null, body: { kind: 'stream', stream: body } };
  }
  // Nothing of a body this small goes out before the whole is verified: so a wrong one can be an error with a
  // status, which clients retry, rather than a broken connection.
  const bytes = await readWhole(body, size, request.key);
  return { kind: 'body', outcome, size, range: null, body: { kind: 'bytes', bytes } };
}

/**
 * A body without a spool is for the one who began its fill: others read the upstream themselves, and so does who wants
 * a range of what nobody knows the size of, which is told when it is too late to read it.
 */
function isFor(flight: Flight, { range }: NarRequest, outcome: 'fill' | 'follow'): boolean {
  return flight.isSpooled || (outcome === 'fill' && (range === undefined || flight.size !== null));
}

async function rangeOfFlight(
  parts: FromFlightParts,
  request: NarRequest,
  range: ByteRange,
  flight: Flight,
  outcome: NarOutcome,
): Promise<NarAnswer | 'look again'> {
  if (flight.size === null) await settled(flight);
  const size = flight.size ?? flight.written;
  const resolved = resolveRange(range, size);
  if (resolved === null) return { kind: 'unsatisfiable', size };
  // The last piece always comes from the flight, which gives it when the whole is verified.
  const last = Math.max(resolved.start, size - HOLD_BACK_BYTES);
  if (resolved.start > flight.written + WAIT_AHEAD_BYTES && resolved.start < last) {
    const ahead = { start: resolved.start, end: Math.min(resolved.end, last - 1) };
    const body = await parts.passage.rangeAhead(request, ahead, size);
    if (body !== null) {
      if (resolved.end < last) return body;
      if (flight.joinable) return { ...followedBy(body, flight.read(last, resolved.end), resolved), size };
      await leaveBody(body);
    }
  }
  if (!flight.joinable) return 'look again';
  const stream = flight.read(resolved.start, resolved.end);
  return { kind: 'body', outcome, size, range: resolved, body: { kind: 'stream', stream } };
}

/** An answer that goes on with another stream. */
function followedBy(
  first: NarBody,
  rest: ByteStream,
  range: { readonly start: number; readonly end: number },
): NarBody {
  const whole = (async function* () {
    yield* streamOfBody(first.body);
    yield* rest;
  })();
  const stream = withCleanup(whole, () => {
    void leaveBody(first).catch(() => undefined);
    void leave(rest).catch(() => undefined);
  });
  return { ...first, range, body: { kind: 'stream', stream } };
}

async function leaveBody({ body }: NarBody): Promise<void> {
  if (body.kind === 'stream') await leave(body.stream);
}

async function settled(flight: Flight): Promise<void> {
  try {
    await flight.whole();
  } catch (error) {
    throw faultOf(error);
  }
}

async function readWhole(body: ReturnType<Flight['read']>, size: number, key: string): Promise<Uint8Array> {
  try {
    return await collect(body, size, key);
  } catch (error) {
    await leave(body);
    throw faultOf(error);
  }
}
