import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { DecompressionError } from '../../../src/nar/decompress.ts';
import { digestNar } from '../../../src/nar/digest.ts';
import { createThreadedDigest, type ThreadedDigest } from '../../../src/runtime/node/threaded-digest.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import { chunked, encode, hasTool, noise } from '../nar/fixtures.ts';

const nar = noise(100_000, 1);
const limits = { maxOutput: nar.length };
const THREAD = new URL('../../../src/runtime/node/digest-thread.ts', import.meta.url);

let threaded: ThreadedDigest | undefined;

afterEach(async () => {
  await threaded?.close();
});

/** A thread that answers the first message, and then does as the code says. */
function failing(code: string): Worker {
  const answer = "parentPort.once('message', () => { parentPort.postMessage({ kind: 'more' }); ";
  return new Worker(`const { parentPort } = require('node:worker_threads'); ${answer}${code} });`, {
    eval: true,
  });
}

/** A NAR whose first bytes come when the worker has ended. */
async function* afterExit(worker: Worker): AsyncGenerator<Uint8Array, void, void> {
  await new Promise<void>((resolve) => {
    worker.on('exit', () => resolve());
    // It may be over already: then it has no id any more, and says nothing.
    if (worker.threadId === -1) resolve();
  });
  yield nar;
}

/** Starts the given worker first, and then good ones. */
function firstOf(worker: Worker): ThreadedDigest {
  const workers = [worker];
  return (threaded = createThreadedDigest(() => workers.shift() ?? new Worker(THREAD)));
}

describe('a digest on its own thread', () => {
  it('is the one of this thread', async () => {
    threaded = createThreadedDigest();
    const expected = await digestNar(streamOf(nar), 'none', limits);
    const [plain, gzip] = await Promise.all([
      threaded.digestNar(chunked(nar, 10_000), 'none', limits),
      threaded.digestNar(chunked(encode(nar, 'gzip'), 10_000), 'gzip', limits),
    ]);
    expect([plain, gzip]).toEqual([expected, expected]);
  });

  it.each([
    ['corrupt', Uint8Array.of(1, 2, 3, 4), 'gzip', limits],
    ['resources', encode(nar, 'zstd'), 'zstd', { ...limits, maxWindow: 2048 }],
  ] as const)('that fails says that the reason is: %s', async (reason, bytes, compression, given) => {
    threaded = createThreadedDigest();
    const here: unknown = await digestNar(streamOf(bytes), compression, given).catch(
      (error: unknown) => error,
    );
    const there: unknown = await threaded
      .digestNar(streamOf(bytes), compression, given)
      .catch((error: unknown) => error);
    if (!(here instanceof DecompressionError && there instanceof DecompressionError)) throw there;
    expect(there.reason).toBe(reason);
    expect(there.message).toBe(here.message);
    expect(there.compression).toBe(compression);
  });

  it.skipIf(!hasTool('xz'))('tells a check that is not supported from a corrupt NAR', async () => {
    threaded = createThreadedDigest();
    const encoded = encode(nar, 'xz', ['--check=sha256']);
    await expect(threaded.digestNar(streamOf(encoded), 'xz', limits)).rejects.toMatchObject({
      name: 'DecompressionError',
      reason: 'unsupported',
    });
  });

  it('leaves the stream of a NAR that it refuses', async () => {
    threaded = createThreadedDigest();
    const stream = chunked(new Uint8Array(1_000_000).fill(7), 10_000);
    await expect(threaded.digestNar(stream, 'gzip', limits)).rejects.toThrow(DecompressionError);
    expect(stream.cancelled).toBe(true);
  });
});

describe('a thread that ends while a NAR is waited for', () => {
  it.each([
    ['without an error', 'process.exit(0);', 'The digest thread ended'],
    ['with an error', "setImmediate(() => { throw new Error('out of luck'); });", 'out of luck'],
  ])('%s fails that NAR, and the next one has a thread of its own', async (_, code, message) => {
    const worker = failing(code);
    const digest = firstOf(worker);
    await expect(digest.digestNar(afterExit(worker), 'none', limits)).rejects.toThrow(message);
    expect(await digest.digestNar(streamOf(nar), 'none', limits)).toMatchObject({ narSize: nar.length });
  });

  it('fails the NAR too where it was asked already', async () => {
    const worker = failing("parentPort.once('message', () => process.exit(0));");
    await expect(firstOf(worker).digestNar(streamOf(nar), 'none', limits)).rejects.toThrow(
      'The digest thread ended',
    );
  });
});
