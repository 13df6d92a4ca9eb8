import { announcedSize, assertSize, beginBody, brokenAnswer } from './answer-body.ts';
import type { BegunBody } from './answer-body.ts';

/** What Lambda gives a streaming function to write its answer to; a Node stream, as far as it is used. */
export interface ResponseStream {
  write(chunk: Uint8Array | string, done?: (error?: Error | null) => void): boolean;
  end(): void;
}

/** Puts status and headers in front of what is written: `awslambda.HttpResponseStream.from`. */
export type WithHead = (
  stream: ResponseStream,
  head: { readonly statusCode: number; readonly headers: Readonly<Record<string, string>> },
) => ResponseStream;

/**
 * Bytes of a body that are read before its head goes out. What a client sees of a stream that breaks off is not
 * documented for Lambda, whose front end also renames Content-Length: so a body of this size or less, which is what it streams
 * without a limit of speed, is whole before any of it is sent, or else an error with a status.
 */
export const READ_AHEAD_BYTES: number = 6 * 2 ** 20;

/**
 * Writes an answer at the client's pace, and ends it. In front of it stands no `Content-Length`: Lambda sends a streamed body
 * in chunks.
 *
 * @throws what the body throws after its first bytes were sent, and Error where it is shorter or longer than announced. The
 *   stream is not ended then: the runtime does that, and reports the error with it (law 1)
 */
export async function sendStreamed(
  response: Response,
  stream: ResponseStream,
  withHead: WithHead,
): Promise<void> {
  let answer = response;
  let begun: BegunBody;
  try {
    begun = await beginBody(answer, READ_AHEAD_BYTES);
  } catch {
    // The reason is in the log already.
    answer = brokenAnswer(response);
    begun = await beginBody(answer, READ_AHEAD_BYTES);
  }
  const target = withHead(stream, {
    statusCode: answer.status,
    headers: Object.fromEntries(answer.headers),
  });
  // The head goes with the first write, so there must be one.
  if (begun.size === 0 && begun.rest === null) target.write('');
  try {
    for (const chunk of begun.chunks) await written(target, chunk);
    if (begun.rest !== null) await sendRest(begun.rest, begun.size, target, announcedSize(answer));
  } catch (error) {
    await begun.rest?.cancel(error).catch(() => undefined);
    throw error;
  }
  target.end();
}

/** @param size bytes that were sent before */
async function sendRest(
  rest: ReadableStreamDefaultReader<Uint8Array>,
  size: number,
  target: ResponseStream,
  announced: number | null,
): Promise<void> {
  let sent = size;
  for (;;) {
    const { done, value } = await rest.read();
    if (done) break;
    sent += value.length;
    await written(target, value);
  }
  assertSize(sent, announced);
}

/** Resolves when the chunk has left this process, so that no more than one waits. */
function written(target: ResponseStream, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    target.write(chunk, (error) => {
      if (error === undefined || error === null) resolve();
      else reject(error);
    });
  });
}
