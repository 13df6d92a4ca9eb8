import { resolveRange } from '../storage/blob-store.ts';
import type { ByteRange } from '../storage/blob-store.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import { contentEncoding, decodedBody } from './content-encoding.ts';
import { InvalidAnswerError } from './invalid-answer.ts';
import { emptied, exactly, leave } from './response-body.ts';
import { DECODED_NAR_LIMIT } from './settings.ts';
import type { TransportResponse } from './transport.ts';
import type { OpenedNar } from './upstreams.ts';

/** What an upstream's answer with status 200, 206 or 416 says of a NAR. */
export type NarAnswer = Extract<OpenedNar, { kind: 'found' | 'unsatisfiable' }>;

/** The `Range` header for a range (RFC 9110 §14.2). */
export function rangeHeader(range: ByteRange): string {
  return 'suffix' in range ? `bytes=-${range.suffix}` : `bytes=${range.start}-${range.end ?? ''}`;
}

/**
 * Understands an answer with status 200, 206 or 416 to a request for a NAR.
 *
 * @param range what was asked for; undefined for the whole
 * @throws InvalidAnswerError where it is not an answer to what was asked; its body is left then
 */
export async function readNarResponse(
  response: TransportResponse,
  upstream: string,
  method: 'GET' | 'HEAD',
  range: ByteRange | undefined,
): Promise<NarAnswer> {
  try {
    return understand(response, upstream, method, range);
  } catch (error) {
    await leave(response.body);
    throw error;
  }
}

function understand(
  response: TransportResponse,
  upstream: string,
  method: 'GET' | 'HEAD',
  range: ByteRange | undefined,
): NarAnswer {
  const { status, headers } = response;
  if (status !== 200 && range === undefined)
    throw new InvalidAnswerError(`answered ${status} without a Range`);
  if (status === 416) {
    const size = /^bytes \*\/(\d{1,15})$/.exec(headers['content-range'] ?? '')?.[1];
    void leave(response.body);
    return { kind: 'unsatisfiable', size: size === undefined ? null : Number(size) };
  }
  const etag = headers['etag'] ?? null;
  const found = { kind: 'found', upstream, etag } as const;
  if (status === 206) return { ...found, ...partial(response, range ?? { start: 0 }) };
  const encoded = contentEncoding(response) !== null;
  return {
    ...found,
    size: encoded ? null : contentLength(headers),
    range: null,
    body: method === 'HEAD' ? emptied(response.body) : decodedBody(response, DECODED_NAR_LIMIT),
  };
}

function partial(
  response: TransportResponse,
  asked: ByteRange,
): { size: number | null; range: { start: number; end: number }; body: ByteStream } {
  const { headers } = response;
  const shown = JSON.stringify(headers['content-range'] ?? '');
  const wrong = (why: string): InvalidAnswerError =>
    new InvalidAnswerError(`answered ${rangeHeader(asked)} with Content-Range ${shown}: ${why}`);
  if (contentEncoding(response) !== null) throw wrong('under a Content-Encoding a range means nothing');

  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(headers['content-range'] ?? '');
  if (match === null) throw wrong('it cannot be understood');
  const [start, end] = [Number(match[1]), Number(match[2])];
  const size = match[3] === '*' ? null : Number(match[3]);
  if (size === null) {
    const fits =
      'suffix' in asked ? end - start < asked.suffix : start === asked.start && end <= (asked.end ?? end);
    if (end < start || !fits) throw wrong('these are other bytes');
  } else {
    const expected = resolveRange(asked, size);
    if (expected === null || expected.start !== start || expected.end !== end)
      throw wrong('these are other bytes');
  }
  const length = contentLength(headers);
  if (length !== null && length !== end - start + 1) throw wrong(`its Content-Length is ${length}`);
  return {
    size,
    range: { start, end },
    body: length === null ? exactly(response.body, end - start + 1) : response.body,
  };
}

function contentLength(headers: TransportResponse['headers']): number | null {
  const length = headers['content-length'] ?? '';
  return /^\d{1,15}$/.test(length) ? Number(length) : null;
}
