import { patience, type Platform } from '../platform.ts';
import { type BlobStore, StorageError } from '../storage/blob-store.ts';
import { leave } from '../stream/byte-stream.ts';

/**
 * How long the storage may take to begin an answer, in milliseconds. Drivers are more patient, and try again: that is
 * right for a write, but a client would wait for minutes for a body that an upstream has (law 6).
 */
const PATIENCE_MS = 10_000;

/** The same store, whose reads are a fault where it does not answer in time. What comes late is left. */
export function patientStorage(storage: BlobStore, { clock }: Pick<Platform, 'clock'>): BlobStore {
  async function inTime<Answer>(
    what: string,
    asked: Promise<Answer>,
    onLate: (answer: Answer) => Promise<void>,
  ): Promise<Answer> {
    const answered = new AbortController();
    let late = false;
    const enough = patience(clock, PATIENCE_MS, answered.signal).then((): never => {
      late = true;
      throw new StorageError(`${what}: no answer within ${PATIENCE_MS} ms`);
    });
    try {
      return await Promise.race([asked, enough]);
    } finally {
      answered.abort();
      if (late) void asked.then(onLate).catch(() => undefined);
    }
  }

  const reads: Pick<BlobStore, 'get' | 'head'> = {
    get: (key, options) =>
      inTime(`Cannot read ${key}`, storage.get(key, options), async (blob) => {
        if (blob?.kind === 'found' && blob.body.kind === 'stream') await leave(blob.body.stream);
      }),
    head: (key) => inTime(`Cannot look at ${key}`, storage.head(key), () => Promise.resolve()),
  };
  return new Proxy(storage, {
    get(object, name): unknown {
      if (name === 'get' || name === 'head') return reads[name];
      const member: unknown = Reflect.get(object, name, object);
      return typeof member === 'function' ? member.bind(object) : member;
    },
  });
}
