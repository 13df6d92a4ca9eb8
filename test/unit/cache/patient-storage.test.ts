import { describe, expect, it } from 'vitest';
import { patientStorage } from '../../../src/cache/patient-storage.ts';
import { createMemoryStore } from '../../../src/storage/memory.ts';
import type { BlobStore, StoredBlob } from '../../../src/storage/blob-store.ts';
import { createFakeClock } from '../../contract/lock/fake-clock.ts';
import { withMethods } from '../../support/replaced.ts';

const BYTES = new TextEncoder().encode('body');

function setting(methods: Partial<BlobStore> = {}) {
  const clock = createFakeClock();
  const store = createMemoryStore();
  return { clock, store, patient: patientStorage(withMethods(store, methods), { clock }) };
}

describe('a storage that answers', () => {
  it('is as it was, and leaves no timer behind', async () => {
    const { clock, patient, store } = setting();
    await patient.put('a', { kind: 'bytes', bytes: BYTES });
    expect(await patient.get('a')).toMatchObject({ kind: 'found', size: 4 });
    expect(await patient.head('a')).toMatchObject({ size: 4 });
    expect(await patient.get('b')).toBeNull();
    expect(patient.description).toBe(store.description);
    expect(clock.sleeping).toBe(0);
  });

  it('with a fault of its own gives that', async () => {
    const { clock, patient } = setting({ head: () => Promise.reject(new Error('denied')) });
    await expect(patient.head('a')).rejects.toThrow('denied');
    expect(clock.sleeping).toBe(0);
  });
});

describe('a storage that says nothing', () => {
  it('is at fault after ten seconds, for a look as for a read', async () => {
    const silent = (): Promise<never> => new Promise(() => undefined);
    const { clock, patient } = setting({ get: silent, head: silent });
    const outcomes = Promise.allSettled([patient.get('a'), patient.head('a')]);
    await clock.advance(9_999);
    expect(clock.sleeping).toBe(2);
    await clock.advance(1);
    expect((await outcomes).map((each) => String(each.status === 'rejected' && each.reason))).toEqual([
      'StorageError: Cannot read a: no answer within 10000 ms',
      'StorageError: Cannot look at a: no answer within 10000 ms',
    ]);
  });

  it('has its body left where it comes late', async () => {
    const answer = Promise.withResolvers<StoredBlob>();
    const { clock, patient } = setting({ get: () => answer.promise });
    const outcome = patient.get('a').catch(String);
    await clock.advance(10_000);
    expect(await outcome).toContain('no answer');
    let left = false;
    const stream = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<never>(() => undefined),
        return: () => {
          left = true;
          return Promise.resolve({ done: true as const, value: undefined });
        },
      }),
    };
    const body = { kind: 'stream' as const, stream };
    answer.resolve({ kind: 'found', key: 'a', size: 4, modifiedAt: 0, start: 0, end: 3, body });
    await expect.poll(() => left).toBe(true);
  });
});
