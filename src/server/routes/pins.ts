import type { Context } from 'hono';
import { PinError, type PinRequest } from '../../cache/pins.ts';
import type { PinRecord } from '../../database/upkeep-store.ts';
import { BodyTooLargeError, collect, type ByteStream } from '../../stream/byte-stream.ts';
import { refusedAdmin } from '../admin.ts';
import { answerBytes } from '../answer.ts';
import type { AppEnv, AppOptions } from '../env.ts';
import { answerError } from '../errors.ts';

const MOST_BODY_BYTES = 64 * 1024;

/** `GET /pins` */
export async function listPinsRoute(c: Context<AppEnv>, options: AppOptions): Promise<Response> {
  return await asAdmin(c, options, async () => {
    const pins = await options.cache.pins.list();
    return answerJson(c, 200, { pins: pins.map(shown) });
  });
}

/** `GET /pins/<name>` */
export async function getPinRoute(c: Context<AppEnv>, options: AppOptions, name: string): Promise<Response> {
  return await asAdmin(c, options, async () => {
    const pin = await options.cache.pins.get(name);
    return pin === null ? answerUnknown(c, name) : answerJson(c, 200, shown(pin));
  });
}

/**
 * `PUT /pins/<name>` with `{"storePath", "expiresAt"?, "ttlSeconds"?, "fetch"?}`. With `fetch` it is answered 202 at once,
 * and the closure is looked up and downloaded afterwards: `GET` tells how far that is.
 */
export async function putPinRoute(c: Context<AppEnv>, options: AppOptions, name: string): Promise<Response> {
  return await asAdmin(c, options, async () => {
    const request = await readRequest(c, options, name);
    if (request.problems !== null) return answerError(c, 400, 'invalid_pin', request.problems.join('; '));
    const { pin, missing, pinnedBytes, exceedsLimit } = await options.cache.pins.put(request.pin, {
      shallow: request.fetch,
    });
    if (request.fetch) options.cache.fetchPinLater(name);
    const answer = { ...shown(pin), missing, pinnedBytes, exceedsLimit };
    return answerJson(c, request.fetch ? 202 : 200, answer);
  });
}

/** `DELETE /pins/<name>` */
export async function deletePinRoute(
  c: Context<AppEnv>,
  options: AppOptions,
  name: string,
): Promise<Response> {
  return await asAdmin(c, options, async () => {
    const was = await options.cache.pins.delete(name);
    return was ? answerJson(c, 200, { deleted: name }) : answerUnknown(c, name);
  });
}

async function asAdmin(
  c: Context<AppEnv>,
  options: AppOptions,
  work: () => Promise<Response>,
): Promise<Response> {
  c.get('note').route = 'pins';
  const refused = await refusedAdmin(c, options);
  if (refused !== null) return refused;
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PinError)) throw error;
    return answerError(c, error.kind === 'unknown' ? 404 : 400, `${error.kind}_pin`, error.message);
  }
}

/** A request, or everything that is wrong with it. */
type Given =
  | { readonly problems: null; readonly pin: PinRequest; readonly fetch: boolean }
  | { readonly problems: readonly string[] };

async function readRequest(c: Context<AppEnv>, { platform }: AppOptions, name: string): Promise<Given> {
  const body = await readJson(c);
  if (typeof body === 'string') return { problems: [body] };
  const { storePath, expiresAt, ttlSeconds, fetch = false, ...rest } = body;
  const problems = Object.keys(rest).map((field) => `${JSON.stringify(field)} is no field of a pin`);
  if (typeof storePath !== 'string') problems.push('storePath: expected a full store path');
  if (typeof fetch !== 'boolean') problems.push('fetch: expected true or false');
  const isAbsent = (value: unknown): boolean => value === undefined || value === null;
  let end: number | null = null;
  if (!isAbsent(expiresAt) && !isAbsent(ttlSeconds)) {
    problems.push('expected either expiresAt or ttlSeconds, not both');
  } else if (!isAbsent(expiresAt)) {
    end = typeof expiresAt === 'string' ? Date.parse(expiresAt) : Number.NaN;
    if (Number.isNaN(end)) problems.push('expiresAt: expected a time, as 2030-01-31T00:00:00Z');
  } else if (!isAbsent(ttlSeconds)) {
    const seconds = typeof ttlSeconds === 'number' && Number.isSafeInteger(ttlSeconds) ? ttlSeconds : 0;
    if (seconds <= 0 || seconds > MOST_SECONDS) problems.push('ttlSeconds: expected a number of seconds');
    end = platform.clock.now() + seconds * 1000;
  }
  if (problems.length > 0 || typeof storePath !== 'string') return { problems };
  return { problems: null, pin: { name, storePath, expiresAt: end }, fetch: fetch === true };
}

/** A thousand years. */
const MOST_SECONDS = 1000 * 366 * 24 * 60 * 60;

/** @returns what is wrong with it, where it is no object of JSON */
async function readJson(c: Context<AppEnv>): Promise<Readonly<Record<string, unknown>> | string> {
  const { body } = c.req.raw;
  if (body === null) return 'expected a body of JSON, as {"storePath": "/nix/store/…"}';
  try {
    const bytes = await collect(chunksOf(body), MOST_BODY_BYTES);
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (isObject(value)) return value;
  } catch (error) {
    if (error instanceof BodyTooLargeError) return `expected a body of at most ${MOST_BODY_BYTES} bytes`;
    if (!(error instanceof SyntaxError) && !(error instanceof TypeError)) throw error;
  }
  return 'expected a body of JSON, as {"storePath": "/nix/store/…"}';
}

async function* chunksOf(
  body: ReadableStream<Uint8Array>,
): ByteStream & AsyncGenerator<Uint8Array, void, void> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function shown(pin: PinRecord): Readonly<Record<string, unknown>> {
  const { name, storePath, createdAt, expiresAt, paths, unknownPaths, absentPaths, presentBytes } = pin;
  return {
    name,
    storePath,
    createdAt: new Date(createdAt).toISOString(),
    expiresAt: expiresAt === null ? null : new Date(expiresAt).toISOString(),
    paths,
    unknownPaths,
    absentPaths,
    presentBytes,
  };
}

function answerUnknown(c: Context<AppEnv>, name: string): Response {
  return answerError(c, 404, 'unknown_pin', `There is no pin ${JSON.stringify(name)}`);
}

function answerJson(c: Context<AppEnv>, status: number, value: unknown): Response {
  const headers = { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' };
  return answerBytes(c, status, headers, `${JSON.stringify(value)}\n`);
}
