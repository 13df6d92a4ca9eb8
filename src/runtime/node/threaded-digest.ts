import { Worker } from 'node:worker_threads';
import type { Compression, DecompressLimits } from '../../nar/decompress.ts';
import type { NarDigest } from '../../nar/digest.ts';
import type { ByteStream } from '../../stream/byte-stream.ts';

export type ToThread =
  | { readonly kind: 'begin'; readonly compression: Compression; readonly limits: DecompressLimits }
  | { readonly kind: 'chunk'; readonly bytes: Uint8Array }
  | { readonly kind: 'end' };

export type FromThread =
  | { readonly kind: 'more' }
  | { readonly kind: 'digest'; readonly digest: NarDigest }
  | { readonly kind: 'error'; readonly name: string; readonly message: string };

/** Digests NARs on a thread of its own, so that answers do not wait while xz is decoded. */
export interface ThreadedDigest {
  digestNar(stream: ByteStream, compression: Compression, limits: DecompressLimits): Promise<NarDigest>;
  close(): Promise<void>;
}

/** The thread costs memory: it ends when it was idle for this many milliseconds. */
const IDLE_MS = 30_000;

export function createThreadedDigest(): ThreadedDigest {
  let worker: Worker | null = null;
  let idle: NodeJS.Timeout | undefined;
  let last: Promise<unknown> = Promise.resolve();

  function thread(): Worker {
    clearTimeout(idle);
    if (worker !== null) return worker;
    const started = new Worker(new URL('./digest-thread.ts', import.meta.url));
    started.unref();
    started.once('exit', () => {
      if (worker === started) worker = null;
    });
    worker = started;
    return started;
  }

  async function end(): Promise<void> {
    clearTimeout(idle);
    const ending = worker;
    worker = null;
    await ending?.terminate();
  }

  async function digest(
    stream: ByteStream,
    compression: Compression,
    limits: DecompressLimits,
  ): Promise<NarDigest> {
    const running = thread();
    try {
      await ask(running, { kind: 'begin', compression, limits });
      for await (const bytes of stream) await ask(running, { kind: 'chunk', bytes });
      const answer = await ask(running, { kind: 'end' });
      if (answer.kind !== 'digest') throw new Error('The digest thread gave no digest');
      return answer.digest;
    } finally {
      idle = setTimeout(() => void end(), IDLE_MS).unref();
    }
  }

  return {
    digestNar(stream, compression, limits) {
      const turn = last.then(() => digest(stream, compression, limits));
      last = turn.catch(() => undefined);
      return turn;
    },
    close: end,
  };
}

/** One message and its answer. Rejects with the error of the thread, by its name, or where the thread ends. */
function ask(worker: Worker, message: ToThread): Promise<FromThread> {
  const { promise, resolve, reject } = Promise.withResolvers<FromThread>();
  const onMessage = (answer: FromThread): void => {
    if (answer.kind === 'error') reject(Object.assign(new Error(answer.message), { name: answer.name }));
    else resolve(answer);
  };
  const onEnd = (): void => reject(new Error('The digest thread ended'));
  worker.once('message', onMessage);
  worker.once('error', reject);
  worker.once('exit', onEnd);
  worker.postMessage(message);
  return promise.finally(() => {
    worker.off('message', onMessage);
    worker.off('error', reject);
    worker.off('exit', onEnd);
  });
}
