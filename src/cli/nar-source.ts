import { compressionExtension, COMPRESSIONS, decompress, isCompression } from '../nar/decompress.ts';
import type { Compression } from '../nar/decompress.ts';
import { createSha256 } from '../nar/sha256.ts';
import { NAR_INFO_SIZE_LIMIT, parseNarInfo } from '../nix/nar-info.ts';
import type { NarInfo } from '../nix/nar-info.ts';
import { collect, concat } from '../stream/byte-stream.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import { redactUrl } from '../telemetry/redact.ts';
import { Failure, UsageFailure, explain } from './failure.ts';
import { besides, isUrl, NO_LIMIT, readPlace } from './place.ts';
import type { Remote } from './place.ts';

/** A NAR to be read once. */
export interface NarSource {
  /** Where it is, without credentials. */
  readonly label: string;
  /** What the narinfo says; null where a NAR was named directly. */
  readonly info: NarInfo | null;
  readonly compression: Compression;
  /** The NAR itself, decompressed. */
  readonly nar: ByteStream;
  /** What has been read so far; final once `nar` was read to its end. */
  measure(): NarMeasure;
}

/** What a NAR and its encoded form turned out to be. */
export interface NarMeasure {
  /** `sha256:<nix32>` each; sizes in bytes. */
  readonly narHash: string;
  readonly narSize: number;
  readonly fileHash: string;
  readonly fileSize: number;
}

/** How to find and read a NAR. */
export interface NarSourceOptions {
  /** As given by hand; null: the narinfo, the first bytes or the name tell. */
  readonly compression: string | null;
  readonly storeDir: string;
  /** Called at most once, and only for URLs. */
  remote(): Promise<Remote>;
}

/**
 * Opens the NAR at a place: a file or URL, or a narinfo whose NAR is then read.
 *
 * @throws Failure where it cannot be read or its compression cannot be told; UsageFailure for a wrong option
 */
export async function openNarSource(place: string, options: NarSourceOptions): Promise<NarSource> {
  const given = options.compression;
  if (given !== null && !isCompression(given)) {
    throw new UsageFailure(
      `Unknown compression ${JSON.stringify(given)}: expected ${COMPRESSIONS.join(', ')}`,
    );
  }
  const info = nameOf(place).endsWith('.narinfo') ? await readNarInfo(place, options) : null;
  const narPlace = info === null ? place : besides(place, info.url);
  const { head, stream } = await peek(readPlace(narPlace, options.remote));
  const compression = given ?? (info === null ? guess(head, nameOf(narPlace)) : compressionOf(info));
  const label = isUrl(narPlace) ? redactUrl(narPlace) : narPlace;

  const file = measured(stream);
  const nar = measured(explained(decompress(file.stream, compression, { maxOutput: NO_LIMIT }), label));
  return {
    label,
    info,
    compression,
    nar: nar.stream,
    measure: () => ({
      narHash: nar.hash(),
      narSize: nar.size(),
      fileHash: file.hash(),
      fileSize: file.size(),
    }),
  };
}

/** @returns what differs between a NAR and what its narinfo says of it, a sentence each */
export function differences(info: NarInfo, measure: NarMeasure): readonly string[] {
  const pairs: readonly (readonly [string, string | number | null, string | number])[] = [
    ['FileHash', info.fileHash, measure.fileHash],
    ['FileSize', info.fileSize, measure.fileSize],
    ['NarHash', info.narHash, measure.narHash],
    ['NarSize', info.narSize, measure.narSize],
  ];
  return pairs
    .filter(([, expected, found]) => expected !== null && expected !== found)
    .map(([field, expected, found]) => `${field} is ${found}, but the narinfo says ${expected}`);
}

async function readNarInfo(place: string, options: NarSourceOptions): Promise<NarInfo> {
  const bytes = await collect(readPlace(place, options.remote), NAR_INFO_SIZE_LIMIT, 'The narinfo');
  return parseNarInfo(new TextDecoder().decode(bytes), { storeDir: options.storeDir });
}

function compressionOf(info: NarInfo): Compression {
  const name = info.compression === '' ? 'none' : info.compression;
  if (isCompression(name)) return name;
  throw new Failure(`Unknown compression ${JSON.stringify(name)} in the narinfo`);
}

/** The first bytes of each format; brotli has none that tell. */
const MAGIC: readonly (readonly [Compression, readonly number[]])[] = [
  ['none', [13, 0, 0, 0, 0, 0, 0, 0, ...new TextEncoder().encode('nix-archive-1')]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['gzip', [0x1f, 0x8b]],
  ['bzip2', [0x42, 0x5a, 0x68]],
];

const MAGIC_BYTES = 32;

function guess(head: Uint8Array, name: string): Compression {
  // Brotli goes by its name alone, and first: its bytes may begin like anything.
  if (name.endsWith('.br')) return 'br';
  const byMagic = MAGIC.find(([, magic]) => magic.every((byte, at) => head[at] === byte));
  if (byMagic !== undefined) return byMagic[0];
  const byName = COMPRESSIONS.find((compression) =>
    name.endsWith(`.nar${compressionExtension(compression)}`),
  );
  if (byName !== undefined) return byName;
  throw new Failure('Cannot tell how this is compressed: name it with --compression');
}

function nameOf(place: string): string {
  return isUrl(place) ? new URL(place).pathname : place;
}

/** The first bytes of a stream, with a stream that still has them. */
async function peek(source: ByteStream): Promise<{ readonly head: Uint8Array; readonly stream: ByteStream }> {
  const iterator = source[Symbol.asyncIterator]();
  const chunks: Uint8Array[] = [];
  let size = 0;
  while (size < MAGIC_BYTES) {
    const next = await iterator.next();
    if (next.done === true) break;
    chunks.push(next.value);
    size += next.value.length;
  }
  const head = concat(chunks, size);
  return { head, stream: rejoined(head, iterator) };
}

async function* rejoined(
  head: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  try {
    if (head.length > 0) yield head;
    for (;;) {
      const next = await rest.next();
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await rest.return?.();
  }
}

interface Measured {
  readonly stream: ByteStream;
  hash(): string;
  /** Bytes. */
  size(): number;
}

function measured(source: ByteStream): Measured {
  const sha256 = createSha256();
  let size = 0;
  let hash: string | null = null;
  async function* pass(): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of source) {
      sha256.update(chunk);
      size += chunk.length;
      yield chunk;
    }
  }
  return { stream: pass(), size: () => size, hash: () => (hash ??= sha256.digest()) };
}

/** What is wrong with the compressed bytes is no fault of this program, so it is told as such. */
async function* explained(stream: ByteStream, label: string): AsyncGenerator<Uint8Array, void, void> {
  try {
    yield* stream;
  } catch (cause) {
    throw cause instanceof Failure
      ? cause
      : new Failure(`Cannot read ${label}: ${explain(cause)}`, { cause });
  }
}
