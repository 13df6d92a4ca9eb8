import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { ByteStream } from '../../../src/stream/byte-stream.ts';
import { noise } from './subject.ts';

/** Yields the same array twice, overwritten in between, as a reader with one buffer does. */
export async function* reusing(bytes: Uint8Array): ByteStream {
  const copy = bytes.slice();
  yield bytes;
  bytes.fill(0);
  bytes.set(copy);
  yield bytes;
  bytes.fill(0);
}

/** A stream that tells when it was ended or left. */
export function watched(stream: ByteStream): { readonly stream: ByteStream; readonly over: boolean } {
  let over = false;
  const inner = stream[Symbol.asyncIterator]();
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      const result = await inner.next();
      over ||= result.done === true;
      return result;
    },
    async return() {
      over = true;
      await inner.return?.();
      return { done: true, value: undefined };
    },
  };
  return {
    stream: { [Symbol.asyncIterator]: () => iterator },
    get over() {
      return over;
    },
  };
}

/** A file of so many bytes, outside every store. */
export async function fileOf(size: number): Promise<{ readonly path: string; readonly bytes: Uint8Array }> {
  const folder = await mkdtemp(join(tmpdir(), 'snowcap-source-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const bytes = noise(size);
  const path = join(folder, 'body');
  await writeFile(path, bytes);
  return { path, bytes };
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
