import { decompress } from '../nar/decompress.ts';
import type { Compression } from '../nar/decompress.ts';
import { collect } from '../stream/byte-stream.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import { InvalidAnswerError } from './invalid-answer.ts';
import { byteStream, leave } from './response-body.ts';
import { SMALL_BODY_LIMIT } from './settings.ts';
import type { TransportResponse } from './transport.ts';

/** The `Content-Encoding`s that can be undone (RFC 9110 §8.4.1; `x-gzip` is an old name). */
const CODINGS: ReadonlyMap<string, Compression> = new Map([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['br', 'br'],
  ['zstd', 'zstd'],
]);

/** The `Content-Encoding` of an answer; null where there is none. */
export function contentEncoding(response: Pick<TransportResponse, 'headers'>): string | null {
  const coding = response.headers['content-encoding']?.trim().toLowerCase() ?? '';
  return coding === '' || coding === 'identity' ? null : coding;
}

/**
 * The body without its `Content-Encoding`, which some caches apply although they were asked not to.
 *
 * @param maxOutput bytes that may come out at most
 * @throws InvalidAnswerError at once where the coding is not one that can be undone; the body is still to be left
 */
export function decodedBody(response: TransportResponse, maxOutput: number): ByteStream {
  const coding = contentEncoding(response);
  if (coding === null) return response.body;
  const compression = CODINGS.get(coding);
  if (compression === undefined) {
    throw new InvalidAnswerError(
      `answered with Content-Encoding ${JSON.stringify(coding)}, which cannot be undone`,
    );
  }
  const source = response.body[Symbol.asyncIterator]();
  const decoded = decompress({ [Symbol.asyncIterator]: () => source }, compression, { maxOutput });
  const chunks = decoded[Symbol.asyncIterator]();
  return byteStream(
    () => chunks.next(),
    async () => {
      await chunks.return?.();
      // A generator that was never begun does not run its `finally`, so the source is left here too.
      await source.return?.();
    },
  );
}

/**
 * The whole of a small body as text, without its `Content-Encoding`. Where it cannot be had it is left.
 *
 * @param what it is, for the error of one that is too large
 * @throws InvalidAnswerError where the coding is not one that can be undone; BodyTooLargeError; DecompressionError;
 *   TransportError where it is not whole
 */
export async function smallText(response: TransportResponse, what: string): Promise<string> {
  try {
    const body = await collect(decodedBody(response, SMALL_BODY_LIMIT), SMALL_BODY_LIMIT, what);
    return new TextDecoder().decode(body);
  } catch (error) {
    await leave(response.body);
    throw error;
  }
}
