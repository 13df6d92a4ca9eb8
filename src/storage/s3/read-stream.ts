import { GetObjectCommand } from '@aws-sdk/client-s3';
import type { ByteStream } from '../../stream/byte-stream.ts';
import { StorageError } from '../blob-store.ts';
import { answerBody } from './answer-body.ts';
import type { AnswerBody } from './answer-body.ts';
import { backOff, bucketKey, failure, sendOptions } from './client.ts';
import type { S3Context } from './client.ts';
import { faultOf } from './errors.ts';

/** How often a body whose connection broke is taken up again, in all. */
const RESUMES = 5;

/** An answer of GetObject whose head is read. */
export interface OpenObject {
  readonly key: string;
  /** First and last byte, both inclusive. */
  readonly start: number;
  readonly end: number;
  /** To resume the same object and no other; without one a broken body is an error. */
  readonly etag: string | undefined;
  readonly body: AnswerBody;
}

/**
 * The bytes of an object from the connection that brings them: nothing is read ahead but what the connection
 * has in its own buffers. Where it breaks, stands still or ends early, the rest is asked for again, of the
 * object with the same ETag. Leaving the stream breaks the connection.
 *
 * Not a generator: leaving one that was never asked for a chunk would run none of its code.
 */
export function objectStream(
  context: S3Context,
  object: OpenObject,
  signal: AbortSignal | undefined,
): ByteStream {
  const { key, end } = object;
  let body = object.body;
  let position = object.start;
  let resumes = 0;
  let over = false;

  const onAbort = (): void => {
    body.cancel();
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  const finish = (): void => {
    over = true;
    signal?.removeEventListener('abort', onAbort);
  };

  const resume = async (broken: unknown): Promise<void> => {
    body.cancel();
    if (resumes === RESUMES || object.etag === undefined) throw shortBody(key, position, end, broken);
    resumes += 1;
    await backOff(context, resumes, signal);
    const command = new GetObjectCommand({
      Bucket: context.bucket,
      Key: bucketKey(context, key),
      Range: `bytes=${position}-${end}`,
      IfMatch: object.etag,
    });
    try {
      const answer = await context.client.send(command, sendOptions(context, signal));
      body = answerBody(answer.Body);
      if (answer.ContentRange?.startsWith(`bytes ${position}-${end}/`) !== true) {
        throw new Error(`the answer has ${answer.ContentRange ?? 'no range'}`);
      }
    } catch (error) {
      const { status } = faultOf(error);
      throw status === 404 || status === 412 ? shortBody(key, position, end, GONE) : error;
    }
    // Left or aborted meanwhile.
    if (over || signal?.aborted === true) body.cancel();
  };

  const nextChunk = async (): Promise<Uint8Array | null> => {
    while (position <= end) {
      signal?.throwIfAborted();
      let broken: unknown = EARLY;
      try {
        const chunk = await inTime(body, context.settings.idleTimeoutMs);
        if (chunk !== null) {
          position += chunk.length;
          return chunk;
        }
      } catch (error) {
        broken = error;
      }
      if (over) return null;
      signal?.throwIfAborted();
      await resume(broken);
    }
    // To the end of the answer, so that the connection can be used again.
    await inTime(body, context.settings.idleTimeoutMs).catch(() => undefined);
    return null;
  };

  const iterator: AsyncIterator<Uint8Array, undefined> = {
    async next() {
      if (over) return { done: true, value: undefined };
      try {
        const chunk = await nextChunk();
        // Left while the chunk was on its way.
        if (chunk !== null && !over) return { done: false, value: chunk };
        finish();
        return { done: true, value: undefined };
      } catch (error) {
        if (over) return { done: true, value: undefined };
        finish();
        body.cancel();
        throw failure('read', key, error, signal);
      }
    },
    async return() {
      if (!over) {
        finish();
        body.cancel();
      }
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

const EARLY = new Error('the connection ended early');
const GONE = new Error('it was removed or replaced meanwhile');

/** The next chunk; a body that stands still is broken off, which ends the wait too. */
async function inTime(body: AnswerBody, ms: number): Promise<Uint8Array | null> {
  const timer = setTimeout(() => {
    body.cancel();
  }, ms);
  try {
    return await body.next();
  } finally {
    clearTimeout(timer);
  }
}

function shortBody(key: string, position: number, end: number, broken: unknown): StorageError {
  const why = broken instanceof Error ? broken.message : String(broken);
  return new StorageError(
    `Cannot read ${JSON.stringify(key)}: its body broke off at byte ${position} of ${end + 1}: ${why}`,
    { cause: broken },
  );
}
