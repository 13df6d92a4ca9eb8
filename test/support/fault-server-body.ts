import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';

/** A body given in memory, in a file, or made while it is sent (bodies too large for either). */
export type Body =
  | string
  | Uint8Array
  | { readonly file: string }
  | {
      /** Bytes; null sends the body chunked. */
      readonly size: number | null;
      /** A fresh body for each request, from its first byte. */
      readonly generate: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
    };

/**
 * How one request is answered. What is left out is as a good server does it: the body of the static
 * directory (else 404), status 200, exact Content-Length, ranges honoured. All offsets are bytes of the body.
 */
export interface Behaviour {
  readonly status?: number;
  /** Added to the answer, last: they win. `Retry-After`, a wrong `Content-Range`, … */
  readonly headers?: Readonly<Record<string, string>>;
  /** Left out: the file of the static directory under this path. */
  readonly body?: Body;
  /** `chunked` and `close` send none; a number is sent whatever the body is. Default `exact`. */
  readonly contentLength?: 'exact' | 'chunked' | 'close' | number;
  /** Really encodes the body, and says so in `Content-Encoding`. */
  readonly contentEncoding?: 'gzip' | 'br' | 'zstd' | 'deflate';
  /** Default true; false answers 200 with the whole body and no `Accept-Ranges`. */
  readonly ranges?: boolean;
  /** Milliseconds before the headers are sent. */
  readonly delayMs?: number;
  /** Sends nothing more from here on, until `until` resolves (never, if it is left out). */
  readonly stallAt?: 'headers' | number;
  readonly until?: Promise<unknown>;
  /** Ends the connection here with a clean FIN, although more was announced. */
  readonly truncateAt?: number;
  /** Resets the connection here (RST). */
  readonly resetAt?: 'headers' | number;
  /** Flips the lowest bit of the byte at this offset of the whole body. */
  readonly flipBitAt?: number;
  readonly bytesPerSecond?: number;
}

/** A body with its size, readable from any offset; `end` is inclusive. */
export interface OpenBody {
  /** Bytes; null where unknown. */
  readonly size: number | null;
  open(start: number, end: number): AsyncIterable<Uint8Array>;
}

const PIECE = 64 * 1024;

/** @returns null where no body is given and the directory has no such file */
export async function openBody(
  body: Body | undefined,
  directory: string | null,
  path: string,
): Promise<OpenBody | null> {
  if (body === undefined) {
    if (directory === null) return null;
    const pathname = normalize(decodeURIComponent(path.split('?')[0] ?? '/'));
    const file = join(directory, pathname);
    const found = await stat(file).catch(() => null);
    return found === null || !found.isFile() ? null : openFile(file, found.size);
  }
  if (typeof body === 'string') return openBytes(Buffer.from(body));
  if (body instanceof Uint8Array) return openBytes(body);
  if ('file' in body) return openFile(body.file, (await stat(body.file)).size);
  return { size: body.size, open: (start, end) => slice(body.generate(), start, end) };
}

function openFile(file: string, size: number): OpenBody {
  return {
    size,
    open: (start, end) => (size === 0 ? slice([], 0, 0) : createReadStream(file, { start, end })),
  };
}

function openBytes(bytes: Uint8Array): OpenBody {
  return {
    size: bytes.length,
    async *open(start, end) {
      const part = bytes.subarray(start, end + 1);
      for (let at = 0; at < part.length; at += PIECE) yield part.subarray(at, at + PIECE);
    },
  };
}

async function* slice(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array> {
  let at = 0;
  for await (const chunk of chunks) {
    const part = chunk.subarray(Math.max(0, start - at), end + 1 - at);
    at += chunk.length;
    if (part.length > 0) yield part;
    if (at > end) return;
  }
}

/** The whole body under a `Content-Encoding`; it is read into memory. */
export async function encoded(
  body: OpenBody,
  encoding: NonNullable<Behaviour['contentEncoding']>,
): Promise<OpenBody> {
  const encode = { gzip: gzipSync, br: brotliCompressSync, zstd: zstdCompressSync, deflate: deflateSync }[
    encoding
  ];
  const chunks: Uint8Array[] = [];
  for await (const chunk of body.open(0, (body.size ?? Infinity) - 1)) chunks.push(chunk);
  return openBytes(encode(Buffer.concat(chunks)));
}

/**
 * The body with what goes wrong inside it: a flipped bit, a stall. Chunks end exactly where it does.
 *
 * @param start the offset in the whole body at which `body` begins
 */
export async function* faulty(
  body: AsyncIterable<Uint8Array>,
  start: number,
  { flipBitAt, stallAt, until, bytesPerSecond }: Behaviour,
): AsyncGenerator<Uint8Array> {
  const piece = bytesPerSecond === undefined ? Infinity : Math.max(1, Math.ceil(bytesPerSecond / 50));
  const stall = typeof stallAt === 'number' ? Math.max(0, stallAt - start) : null;
  let sent = 0;
  const pause = async (): Promise<void> => {
    await (until ?? new Promise<never>(() => undefined));
  };
  if (stall === 0) await pause();
  for await (const whole of body) {
    let rest = whole;
    while (rest.length > 0) {
      const room = stall !== null && sent < stall ? stall - sent : Infinity;
      let chunk = rest.subarray(0, Math.min(rest.length, piece, room));
      rest = rest.subarray(chunk.length);
      const flip = flipBitAt === undefined ? -1 : flipBitAt - start - sent;
      if (flip >= 0 && flip < chunk.length) {
        chunk = Uint8Array.from(chunk);
        chunk[flip] = (chunk[flip] ?? 0) ^ 1;
      }
      sent += chunk.length;
      yield chunk;
      if (sent === stall) await pause();
    }
  }
}

/** The bytes that a `Range` header asks for, both inclusive; null where it asks for none. */
export function parseRange(
  header: string | undefined,
  size: number | null,
): { readonly start: number; readonly end: number } | 'unsatisfiable' | null {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (match === null || size === null) return null;
  const [, first = '', last = ''] = match;
  if (first === '' && last === '') return null;
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1);
  return start >= size || (first === '' && Number(last) === 0) ? 'unsatisfiable' : { start, end };
}
