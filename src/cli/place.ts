import { dirname, join } from 'node:path';
import { redactUrl } from '../telemetry/redact.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import type { Transport } from '../upstream/transport.ts';
import { Failure } from './failure.ts';

/** What is needed to read from URLs: made when the first one is read. */
export interface Remote {
  readonly transport: Transport;
  /** The value of an Authorization header for a URL that has no credentials itself; null for none. */
  authorization(url: URL): string | null;
  readonly headersTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/** More than any encoded or unpacked NAR has; so far can sizes be counted. */
export const NO_LIMIT: number = Number.MAX_SAFE_INTEGER;

/** Whether a place is an http or https URL. Anything else is the path of a file. */
export function isUrl(place: string): boolean {
  return /^https?:\/\//i.test(place);
}

/** Where a relative URL of a narinfo leads. @throws Failure where it leaves the narinfo's server */
export function besides(place: string, url: string): string {
  if (!isUrl(place)) return join(dirname(place), url.replace(/\?.*$/, ''));
  const base = new URL(place);
  const target = new URL(url, base);
  if (target.origin !== base.origin) {
    throw new Failure(`The narinfo leads to another server: ${redactUrl(target)}`);
  }
  target.username = base.username;
  target.password = base.password;
  return target.href;
}

/**
 * The bytes of a file or URL, opened when they are asked for. An answer other than 200, and a file that
 * cannot be read, are a `Failure` while iterating.
 */
export async function* readPlace(
  place: string,
  remote: () => Promise<Remote>,
): AsyncGenerator<Uint8Array, void, void> {
  if (isUrl(place)) yield* await fetchPlace(new URL(place), await remote());
  else yield* readFile(place);
}

async function* readFile(path: string): AsyncGenerator<Uint8Array, void, void> {
  const { createReadStream } = await import('node:fs');
  const file = createReadStream(path, { highWaterMark: 256 * 1024 });
  try {
    for await (const chunk of file as AsyncIterable<Uint8Array>) yield chunk;
  } catch (cause) {
    throw cause instanceof Error && 'syscall' in cause
      ? new Failure(`Cannot read ${JSON.stringify(path)}`, { cause })
      : cause;
  } finally {
    file.destroy();
  }
}

async function fetchPlace(place: URL, remote: Remote): Promise<ByteStream> {
  const authorization = ownAuthorization(place) ?? remote.authorization(place);
  const url = new URL(place);
  url.username = '';
  url.password = '';
  let response;
  try {
    response = await remote.transport.request({
      method: 'GET',
      url,
      headers: { 'accept-encoding': 'identity', ...(authorization !== null && { authorization }) },
      headersTimeoutMs: remote.headersTimeoutMs,
      idleTimeoutMs: remote.idleTimeoutMs,
    });
  } catch (cause) {
    throw new Failure(`Cannot read ${redactUrl(url)}`, { cause });
  }
  if (response.status !== 200) {
    await response.body[Symbol.asyncIterator]().return?.();
    throw new Failure(`Cannot read ${redactUrl(url)}: the answer is ${response.status}`);
  }
  const { decodedBody } = await import('../upstream/content-encoding.ts');
  return decodedBody(response, NO_LIMIT);
}

function ownAuthorization({ username, password }: URL): string | null {
  if (username === '' && password === '') return null;
  return basic(decodeURIComponent(username), decodeURIComponent(password));
}

/** RFC 7617 */
export function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`, 'utf8').toString('base64')}`;
}
