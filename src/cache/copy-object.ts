import { createSha256 } from '../nar/sha256.ts';
import { FormatError } from '../nix/format-error.ts';
import { type NarInfo, parseNarInfo } from '../nix/nar-info.ts';
import type { Platform } from '../platform.ts';
import { type BlobInfo, type BlobStore, isKey } from '../storage/blob-store.ts';
import { BodyTooLargeError, type ByteStream, leave } from '../stream/byte-stream.ts';
import { parseDerivedKey, parseFileHashKey } from './nar-key.ts';
import { MOST_NAR_INFO_BYTES, storedBytes, streamOfBody } from './stored-bytes.ts';

/** What the copying of one object needs. */
export interface CopyContext {
  readonly from: BlobStore;
  readonly to: BlobStore;
  readonly storeDir: string;
  readonly platform: Pick<Platform, 'checkpoint'>;
  /** Compare the content of what is there already. */
  readonly content: boolean;
  readonly dryRun: boolean;
  /** Waits until so many bytes may be read. */
  pace(bytes: number): Promise<void>;
  readonly signal: AbortSignal | undefined;
}

/** What became of an object. */
export type CopiedObject =
  | { readonly kind: 'copied'; readonly bytes: number }
  /** It was there already. */
  | { readonly kind: 'same' }
  /** It was removed since it was listed. */
  | { readonly kind: 'vanished' }
  /** The original is not what its key or its narinfo says, or has no NAR: it was not copied. */
  | { readonly kind: 'wrong'; readonly reason: string };

const NAR_INFO = '.narinfo';
/** How often an object is copied again that changes meanwhile. */
const ATTEMPTS = 3;
/** Somebody else may have written the same key meanwhile: it is not ours to remove then. */
const NOT_AS_WRITTEN = 'what is read back from the target is not what was written';

/**
 * Copies one object where the target has not the same. It is visible there only when its size and its hash are right:
 * the FileHash of its key or its narinfo, or where nobody knows one, that of what is read back.
 *
 * @param there what the target has under the key
 * @throws StorageError, and the signal's reason
 */
export async function copyObject(
  context: CopyContext,
  blob: BlobInfo,
  there: BlobInfo | null,
): Promise<CopiedObject> {
  if (blob.key.startsWith('nar/')) return await copyNar(context, blob, there);
  // What is no NAR may change under its key: the same size is not enough then, and some stores tell whole seconds only.
  const unchanged = there?.size === blob.size && there.modifiedAt > blob.modifiedAt;
  if (unchanged && !context.content) return { kind: 'same' };
  const copied = await copyOnce(context, blob, there);
  return copied.kind === 'copied' && !context.dryRun ? await againUntilSame(context, blob, copied) : copied;
}

async function copyOnce(context: CopyContext, blob: BlobInfo, there: BlobInfo | null): Promise<CopiedObject> {
  return blob.key.endsWith(NAR_INFO) && !blob.key.includes('/')
    ? await copyNarInfo(context, blob, there)
    : await copyBody(context, blob, there, null);
}

/** What changed while it was copied is older than its copy afterwards: no later run would see it. */
async function againUntilSame(
  context: CopyContext,
  listed: BlobInfo,
  copied: CopiedObject,
): Promise<CopiedObject> {
  const { from, to } = context;
  let before = listed;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const now = await from.head(listed.key);
    if (now === null || (now.size === before.size && isSameTime(before, now))) return copied;
    const again = await copyOnce(context, now, await to.head(listed.key));
    if (again.kind === 'same') return copied;
    if (again.kind !== 'copied') return again;
    before = now;
  }
  return { kind: 'wrong', reason: 'it was changed all the while' };
}

/** Some stores list milliseconds, and tell whole seconds of one object. */
function isSameTime({ modifiedAt: listed }: BlobInfo, { modifiedAt: told }: BlobInfo): boolean {
  return told === listed || told === Math.floor(listed / 1000) * 1000;
}

async function copyNar(context: CopyContext, blob: BlobInfo, there: BlobInfo | null): Promise<CopiedObject> {
  // A key is never used for other bytes (law 3).
  if (there?.size === blob.size && !context.content) return { kind: 'same' };
  return await copyBody(context, blob, there, await fileHashOf(context, blob.key));
}

/**
 * Its NAR is there before it (law 8): also the one of a path that the source was given since its NARs were listed.
 */
async function copyNarInfo(
  context: CopyContext,
  blob: BlobInfo,
  there: BlobInfo | null,
): Promise<CopiedObject> {
  const read = await readNarInfo(context, blob.key);
  if (read === null) return { kind: 'vanished' };
  if (typeof read === 'string') return { kind: 'wrong', reason: read };
  const reason = context.dryRun ? null : await copyNarOf(context, read.info);
  if (reason === null) return await copyBytes(context, blob.key, read.bytes, there);
  // Where it was evicted meanwhile, its narinfo went first.
  return (await context.from.head(blob.key)) === null ? { kind: 'vanished' } : { kind: 'wrong', reason };
}

/** @returns what is wrong where the target has not the NAR of a narinfo afterwards */
async function copyNarOf(context: CopyContext, { url, fileSize }: NarInfo): Promise<string | null> {
  const original = await context.from.head(url);
  const nar = await context.to.head(url);
  const size = fileSize ?? original?.size ?? nar?.size;
  if (nar !== null && nar.size === size) return null;
  if (original === null) return `its NAR ${url} is not stored`;
  const copied = await copyNar(context, original, nar);
  if (copied.kind === 'wrong') return `its NAR ${url}: ${copied.reason}`;
  if (copied.kind === 'vanished') return `its NAR ${url} is not stored`;
  return original.size === size ? null : `its NAR ${url} has ${original.size} bytes, expected ${size}`;
}

/** What was read and judged: under its key there may be something else by now, as a narinfo that names another NAR. */
async function copyBytes(
  context: CopyContext,
  key: string,
  bytes: Uint8Array,
  there: BlobInfo | null,
): Promise<CopiedObject> {
  const { to, dryRun, pace, signal } = context;
  await pace(bytes.length);
  const sha256 = createSha256();
  sha256.update(bytes);
  const hash = sha256.digest();
  if (there !== null && (await hashOf(context, to, key)) === hash) return { kind: 'same' };
  if (!dryRun) {
    await context.platform.checkpoint?.('copy:object');
    await to.put(key, { kind: 'bytes', bytes }, { contentType: contentTypeOf(key), ...options(signal) });
    if ((await hashOf(context, to, key)) !== hash) return { kind: 'wrong', reason: NOT_AS_WRITTEN };
  }
  return { kind: 'copied', bytes: bytes.length };
}

/** @param expected `sha256:<nix32>` of the object; null where nobody knows it */
async function copyBody(
  context: CopyContext,
  { key }: BlobInfo,
  there: BlobInfo | null,
  expected: string | null,
): Promise<CopiedObject> {
  const { from, to, dryRun, signal } = context;
  if (there !== null && (context.content || !key.startsWith('nar/'))) {
    const hash = await hashOf(context, from, key);
    if (hash === null) return { kind: 'vanished' };
    if (expected !== null && hash !== expected)
      return { kind: 'wrong', reason: `it is ${hash}, expected ${expected}` };
    if ((await hashOf(context, to, key)) === hash) return { kind: 'same' };
  }
  if (dryRun) {
    const blob = await from.head(key);
    return blob === null ? { kind: 'vanished' } : { kind: 'copied', bytes: blob.size };
  }
  const blob = await from.get(key, options(signal));
  if (blob === null || blob.kind === 'unsatisfiable') return { kind: 'vanished' };
  const { size } = blob;
  const body = streamOfBody(blob.body);
  const checked = new CheckedBody(context, body, size, expected);
  await context.platform.checkpoint?.('copy:object');
  try {
    const source = { kind: 'stream' as const, stream: checked.stream(), size };
    await to.put(key, source, { contentType: contentTypeOf(key), ...options(signal) });
  } catch (error) {
    // Where it was asked for nothing, the put has left the generator around it alone. Not awaited: it may stand still.
    void leave(body).catch(() => undefined);
    if (checked.wrong !== null) return { kind: 'wrong', reason: checked.wrong };
    throw error;
  }
  if (expected === null && (await hashOf(context, to, key)) !== checked.hash) {
    return { kind: 'wrong', reason: NOT_AS_WRITTEN };
  }
  return { kind: 'copied', bytes: size };
}

/** A body that ends well only where it is right: a store makes nothing visible of one that does not. */
class CheckedBody {
  readonly #context: CopyContext;
  readonly #source: ByteStream;
  readonly #size: number;
  readonly #expected: string | null;
  /** Of the whole body, once it ended well. */
  hash: string | null = null;
  /** What is wrong with it, once it did not. */
  wrong: string | null = null;

  constructor(context: CopyContext, source: ByteStream, size: number, expected: string | null) {
    this.#context = context;
    this.#source = source;
    this.#size = size;
    this.#expected = expected;
  }

  async *stream(): AsyncGenerator<Uint8Array, void, void> {
    const hash = createSha256();
    let size = 0;
    for await (const chunk of this.#source) {
      await this.#context.pace(chunk.length);
      size += chunk.length;
      if (this.hash === null) hash.update(chunk);
      // The end is known before the store has the last bytes.
      if (size >= this.#size) this.#judge(size, () => hash.digest());
      yield chunk;
    }
    this.#judge(size, () => hash.digest());
  }

  #judge(size: number, digest: () => string): void {
    if (size !== this.#size) throw this.#fault(`it has ${size} bytes, expected ${this.#size}`);
    this.hash ??= digest();
    if (this.#expected !== null && this.hash !== this.#expected) {
      throw this.#fault(`it is ${this.hash}, expected ${this.#expected}`);
    }
  }

  #fault(reason: string): Error {
    this.wrong = reason;
    return new Error(reason);
  }
}

/** @returns `sha256:<nix32>`; null where there is no such object */
async function hashOf(context: CopyContext, store: BlobStore, key: string): Promise<string | null> {
  const blob = await store.get(key, options(context.signal));
  if (blob === null || blob.kind === 'unsatisfiable') return null;
  const hash = createSha256();
  for await (const chunk of streamOfBody(blob.body)) {
    await context.pace(chunk.length);
    hash.update(chunk);
  }
  return hash.digest();
}

/** The FileHash of a NAR, by its key or by the narinfo of the path that its key names; null where neither tells. */
async function fileHashOf(context: CopyContext, key: string): Promise<string | null> {
  const named = parseFileHashKey(key);
  if (named !== null) return named;
  const derived = parseDerivedKey(key);
  if (derived === null) return null;
  const read = await readNarInfo(context, `${derived.storeHash}${NAR_INFO}`);
  if (read === null || typeof read === 'string' || read.info.url !== key) return null;
  const { info } = read;
  return info.fileHash ?? (info.compression === 'none' ? info.narHash : null);
}

/** @returns null where there is none, and what is wrong with one that cannot be used */
async function readNarInfo(
  { from, storeDir }: Pick<CopyContext, 'from' | 'storeDir'>,
  key: string,
): Promise<{ readonly info: NarInfo; readonly bytes: Uint8Array } | string | null> {
  try {
    const bytes = await storedBytes(from, key, MOST_NAR_INFO_BYTES);
    if (bytes === null) return null;
    const info = parseNarInfo(new TextDecoder().decode(bytes), { storeDir });
    return info.url.startsWith('nar/') && isKey(info.url)
      ? { info, bytes }
      : `its URL ${JSON.stringify(info.url)} is none of a NAR in this storage`;
  } catch (error) {
    if (error instanceof FormatError || error instanceof BodyTooLargeError) {
      return `it is no narinfo: ${error.message}`;
    }
    throw error;
  }
}

/** As those label them who write these objects; the storage does not tell. */
function contentTypeOf(key: string): string {
  if (key.startsWith('nar/')) return 'application/x-nix-nar';
  if (key.endsWith(NAR_INFO)) return 'text/x-nix-narinfo';
  if (key === 'nix-cache-info') return 'text/x-nix-cache-info';
  if (key.startsWith('log/')) return 'text/plain; charset=utf-8';
  return 'application/json';
}

function options(signal: AbortSignal | undefined): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
