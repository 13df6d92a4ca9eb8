import { createHash, createPrivateKey, sign } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { answerCalls } from './child-process.ts';
import { HOST, KEPT_DIRECTORY } from './places.ts';

/** What the upstream of large NARs is asked: to start once, then to count. */
export type GeneratorCall =
  | {
      readonly kind: 'start';
      /** One NAR for each, of about so many bytes. */
      readonly sizes: readonly number[];
      /** Bytes per second of one answer; null for as fast as it goes. */
      readonly bytesPerSecond: number | null;
      /** Milliseconds before the headers of a NAR. */
      readonly firstByteMs: number;
    }
  | { readonly kind: 'counts' };

export interface GeneratorAnswer {
  readonly port: number;
  readonly publicKey: string;
  readonly nars: readonly GeneratedNar[];
  /** Requests for each NAR's body so far, in the order of `nars`. */
  readonly requests: readonly number[];
}

export interface GeneratedNar {
  readonly narInfoPath: string;
  readonly narPath: string;
  /** Bytes. */
  readonly size: number;
  /** Hex. */
  readonly sha256: string;
}

const BLOCK_SIZE = 1024 * 1024;

/** Bytes that do not compress, the same in every run (a chain of hashes). */
function makeBlock(): Buffer {
  const parts: Buffer[] = [];
  let last: Buffer = Buffer.from('snowcap bench');
  for (let size = 0; size < BLOCK_SIZE; size += last.length) {
    last = createHash('sha512').update(last).digest();
    parts.push(last);
  }
  return Buffer.concat(parts);
}

const BLOCK = makeBlock();

/** A string of the NAR format: its length in 8 bytes, little-endian, and itself, padded to a multiple of 8. */
function narString(text: string): Buffer {
  const bytes = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8);
  bytes.writeBigUInt64LE(BigInt(text.length));
  bytes.write(text, 8, 'latin1');
  return bytes;
}

interface Content extends GeneratedNar {
  readonly head: Buffer;
  readonly blocks: number;
  readonly tail: Buffer;
}

/** A NAR of one regular file, of whole blocks of which the first one begins with the number of the NAR. */
async function describeNar(size: number, index: number): Promise<Content> {
  const blocks = Math.max(1, Math.round(size / BLOCK_SIZE));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(blocks * BLOCK_SIZE));
  const first = Buffer.from(BLOCK);
  first.writeUInt32LE(index);
  const head = Buffer.concat([
    ...['nix-archive-1', '(', 'type', 'regular', 'contents'].map(narString),
    length,
    first,
  ]);
  const tail = narString(')');
  const whole = head.length + (blocks - 1) * BLOCK_SIZE + tail.length;
  const sha256 = await keptHash(`${blocks}-${index}`, () => {
    const hash = createHash('sha256').update(head);
    for (let block = 1; block < blocks; block++) hash.update(BLOCK);
    return hash.update(tail).digest('hex');
  });
  const storeHash = nix32(createHash('sha256').update(sha256).digest().subarray(0, 20));
  return {
    head,
    blocks,
    tail,
    size: whole,
    sha256,
    narInfoPath: `/${storeHash}.narinfo`,
    narPath: `/nar/${nix32(Buffer.from(sha256, 'hex'))}.nar`,
  };
}

/** Hashing some GiB takes seconds, so it is done once on a machine. */
async function keptHash(name: string, compute: () => string): Promise<string> {
  const directory = join(KEPT_DIRECTORY, 'generated');
  const file = join(directory, name);
  const kept = await readFile(file, 'utf8').catch(() => null);
  if (kept !== null) return kept;
  const hash = compute();
  await mkdir(directory, { recursive: true });
  await writeFile(file, hash);
  return hash;
}

/** Nix's base-32: five bits a character, the last bits of the last byte first. */
function nix32(bytes: Buffer): string {
  const alphabet = '0123456789abcdfghijklmnpqrsvwxyz';
  const length = Math.ceil((bytes.length * 8) / 5);
  const value = BigInt(`0x${Buffer.from(bytes.toReversed()).toString('hex')}`);
  return Array.from({ length }, (_, position) => {
    return alphabet[Number((value >> BigInt(5 * (length - 1 - position))) & 31n)];
  }).join('');
}

/** PKCS #8 of an Ed25519 key is this, then the 32 bytes of the seed. */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const SECRET = createPrivateKey({
  key: Buffer.concat([PKCS8, createHash('sha256').update('snowcap bench').digest()]),
  format: 'der',
  type: 'pkcs8',
});

function publicKey(): string {
  const { x } = SECRET.export({ format: 'jwk' });
  return `generator-1:${Buffer.from(x ?? '', 'base64url').toString('base64')}`;
}

function narInfo({ narInfoPath, narPath, sha256, size }: Content): string {
  const storePath = `/nix/store/${narInfoPath.slice(1, 33)}-large`;
  const hash = `sha256:${nix32(Buffer.from(sha256, 'hex'))}`;
  const signature = sign(null, Buffer.from(`1;${storePath};${hash};${size};`), SECRET).toString('base64');
  return [
    `StorePath: ${storePath}`,
    `URL: ${narPath.slice(1)}`,
    'Compression: none',
    `FileHash: ${hash}`,
    `FileSize: ${size}`,
    `NarHash: ${hash}`,
    `NarSize: ${size}`,
    'References: ',
    `Sig: generator-1:${signature}`,
    '',
  ].join('\n');
}

/** @param from the first byte that is sent, as a `Range` asks for it */
async function sendNar(
  response: ServerResponse,
  nar: Content,
  from: number,
  bytesPerSecond: number | null,
  firstByteMs: number,
): Promise<void> {
  await pause(firstByteMs);
  response.writeHead(from === 0 ? 200 : 206, {
    'Content-Type': 'application/x-nix-nar',
    'Content-Length': nar.size - from,
    'Accept-Ranges': 'bytes',
    ...(from === 0 ? {} : { 'Content-Range': `bytes ${from}-${nar.size - 1}/${nar.size}` }),
  });
  const begun = performance.now();
  let skip = from;
  let sent = 0;
  const send = async (whole: Buffer): Promise<void> => {
    const chunk = whole.subarray(Math.min(skip, whole.length));
    skip -= whole.length - chunk.length;
    if (chunk.length === 0 || response.destroyed) return;
    // Called when the chunk is on its way, and with an error when the client has gone.
    await new Promise<void>((resolve) => response.write(chunk, () => resolve()));
    sent += chunk.length;
    if (bytesPerSecond !== null) await pause((sent / bytesPerSecond) * 1000 - (performance.now() - begun));
  };
  const pieces = bytesPerSecond === null ? [BLOCK] : split(BLOCK, 64 * 1024);
  for (const piece of bytesPerSecond === null ? [nar.head] : split(nar.head, 64 * 1024)) await send(piece);
  for (let block = 1; block < nar.blocks && !response.destroyed; block++) {
    for (const piece of pieces) await send(piece);
  }
  await send(nar.tail);
  response.end();
}

function split(bytes: Buffer, size: number): readonly Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
    bytes.subarray(index * size, (index + 1) * size),
  );
}

async function pause(milliseconds: number): Promise<void> {
  if (milliseconds > 0) await new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function start(
  { sizes, bytesPerSecond, firstByteMs }: Extract<GeneratorCall, { kind: 'start' }>,
  requests: number[],
): Promise<Omit<GeneratorAnswer, 'requests'>> {
  const nars: Content[] = [];
  for (const [index, size] of sizes.entries()) nars.push(await describeNar(size, index));
  requests.push(...nars.map(() => 0));
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    const body = path === '/nix-cache-info' ? 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n' : null;
    const found = nars.findIndex((nar) => nar.narInfoPath === path || nar.narPath === path);
    const nar = nars[found];
    if (body !== null) response.end(body);
    else if (nar === undefined) response.writeHead(404).end('no such file\n');
    else if (path === nar.narInfoPath)
      response.setHeader('Content-Type', 'text/x-nix-narinfo').end(narInfo(nar));
    else if (request.method === 'HEAD') response.writeHead(200, { 'Content-Length': nar.size }).end();
    else {
      requests[found] = (requests[found] ?? 0) + 1;
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      sendNar(response, nar, from, bytesPerSecond, firstByteMs).catch(() => response.destroy());
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, HOST, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('Cannot listen');
  const shown = nars.map(({ narInfoPath, narPath, size, sha256 }) => ({
    narInfoPath,
    narPath,
    size,
    sha256,
  }));
  return { port: address.port, publicKey: publicKey(), nars: shown };
}

let started: Omit<GeneratorAnswer, 'requests'> | undefined;
const requests: number[] = [];

answerCalls<GeneratorCall, GeneratorAnswer>(async (call) => {
  if (call.kind === 'start') started = await start(call, requests);
  if (started === undefined) throw new Error('Not started');
  return { ...started, requests: [...requests] };
});
