import { beginBody, brokenAnswer, errorAnswer } from './answer-body.ts';
import type { BegunBody } from './answer-body.ts';

/** An answer as API Gateway takes it (payload format 2.0). */
export interface BufferedResult {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly isBase64Encoded: boolean;
}

/** Bytes of an answer that Lambda takes, as JSON. */
const PAYLOAD_BYTES = 6 * 2 ** 20;
/** What is kept of them for status and headers, in bytes. */
const HEAD_BYTES = 64 * 1024;
/** Bytes of a body that fit, in base64. */
export const MOST_BODY_BYTES: number = Math.floor((PAYLOAD_BYTES - HEAD_BYTES) / 4) * 3;

/**
 * The whole answer in one piece. A body that does not fit is an error, never cut off: 501, with which Nix does not try again,
 * since the same request will not succeed. One that breaks is 502.
 */
export async function bufferedResult(response: Response): Promise<BufferedResult> {
  let answer = response;
  let begun: BegunBody;
  try {
    begun = await beginBody(answer, MOST_BODY_BYTES);
  } catch {
    // The reason is in the log already.
    return await bufferedResult(brokenAnswer(response));
  }
  if (begun.rest !== null) {
    await begun.rest.cancel().catch(() => undefined);
    const why = `An answer through API Gateway has ${MOST_BODY_BYTES} bytes at most: serve NARs from S3, with redirects`;
    answer = errorAnswer(response, 501, 'body_too_large', why);
    begun = await beginBody(answer, MOST_BODY_BYTES);
  }
  return {
    statusCode: answer.status,
    headers: Object.fromEntries(answer.headers),
    body: Buffer.concat(begun.chunks).toString('base64'),
    isBase64Encoded: true,
  };
}
