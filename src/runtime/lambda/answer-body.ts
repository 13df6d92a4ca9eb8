/** The bytes that a body begins with, and the rest of it. */
export interface BegunBody {
  readonly chunks: readonly Uint8Array[];
  /** Bytes of the chunks together. */
  readonly size: number;
  /** Null where the chunks are the whole body. */
  readonly rest: ReadableStreamDefaultReader<Uint8Array> | null;
}

/**
 * Reads a body until it ends, or is longer than `limit` bytes.
 *
 * @throws what the body throws, and Error where it ends with another length than its Content-Length
 */
export async function beginBody(response: Response, limit: number): Promise<BegunBody> {
  const announced = announcedSize(response);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const body: ReadableStream<Uint8Array> | null = response.body;
  const reader = body?.getReader() ?? null;
  while (reader !== null) {
    if (size > limit || (announced !== null && announced > limit)) return { chunks, size, rest: reader };
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.length;
  }
  if (reader !== null) assertSize(size, announced);
  return { chunks, size, rest: null };
}

/** @throws Error where a whole body has another size than was announced */
export function assertSize(size: number, announced: number | null): void {
  if (announced !== null && size !== announced) {
    throw new Error(`The body has ${size} bytes, ${announced} were announced`);
  }
}

/** Bytes, of the Content-Length; null where there is none. */
export function announcedSize(response: Response): number | null {
  const header = response.headers.get('content-length');
  return header === null ? null : Number(header);
}

/** In place of an answer whose body failed before anything of it was sent. */
export function brokenAnswer(response: Response): Response {
  return errorAnswer(response, 502, 'broken_body', 'The body could not be read to its end');
}

/** An error in the shape of all others, in place of `response`. */
export function errorAnswer(response: Response, status: number, code: string, message: string): Response {
  const request = response.headers.get('x-request-id') ?? '';
  return new Response(`${code}: ${message} (request ${request})\n`, {
    status,
    headers: {
      'Content-Type': 'text/plain; charset=utf-8',
      'Cache-Control': 'no-store',
      'X-Request-Id': request,
    },
  });
}
