import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBudget } from '../../../src/cache/budget.ts';
import type { BodyVerifier } from '../../../src/cache/fill/body-verifier.ts';
import { HOLD_BACK_BYTES } from '../../../src/cache/fill/flight.ts';
import { heldBack } from '../../../src/cache/fill/hold-back.ts';
import { resuming } from '../../../src/cache/fill/resume.ts';
import type { ByteStream } from '../../../src/stream/byte-stream.ts';
import { TransportError } from '../../../src/upstream/transport.ts';
import { noise } from '../../support/signed-path.ts';

const WRONG = new Error('the body is wrong');

/** A verifier that refuses at its end, at a chunk, or not at all. */
function verifier(
  refusesAt: number | 'end' | null,
): BodyVerifier & { readonly seen: Uint8Array[]; finished: boolean } {
  const seen: Uint8Array[] = [];
  return {
    seen,
    finished: false,
    push(chunk) {
      seen.push(chunk);
      return seen.length - 1 === refusesAt ? Promise.reject(WRONG) : Promise.resolve();
    },
    finish() {
      if (refusesAt === 'end') return Promise.reject(WRONG);
      this.finished = true;
      return Promise.resolve({ fileHash: '', fileSize: 0, verification: 'nar' });
    },
    abort: () => undefined,
  };
}

async function* cut(body: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array, void, void> {
  let at = 0;
  for (const size of sizes) {
    yield body.slice(at, at + size);
    at += size;
  }
}

const chunkSizes = fc.array(fc.integer({ min: 1, max: 120_000 }), { maxLength: 10 });

function total(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + size, 0);
}

describe('heldBack', () => {
  it('passes every byte in order, the last piece only after the verifier has said yes', async () => {
    await fc.assert(
      fc.asyncProperty(chunkSizes, fc.boolean(), async (sizes, sizeKnown) => {
        const body = noise(total(sizes), 3);
        const verify = verifier(null);
        const seen: Uint8Array[] = [];
        for await (const piece of heldBack(cut(body, sizes), verify, sizeKnown ? body.length : null)) {
          seen.push(piece);
          if (!verify.finished)
            expect(total(seen.map(({ length }) => length))).toBeLessThanOrEqual(
              body.length - HOLD_BACK_BYTES,
            );
        }
        expect(verify.finished).toBe(true);
        expect(Buffer.concat(seen).equals(body)).toBe(true);
        expect(Buffer.concat(verify.seen).equals(body)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  it('throws what the verifier throws, and never gives the last piece then', async () => {
    const refusals = fc.oneof(fc.constant('end' as const), fc.nat(9));
    await fc.assert(
      fc.asyncProperty(chunkSizes, refusals, async (sizes, refusesAt) => {
        fc.pre(refusesAt === 'end' || refusesAt < sizes.length);
        const body = noise(total(sizes), 4);
        let passed = 0;
        const reading = async (): Promise<void> => {
          for await (const piece of heldBack(cut(body, sizes), verifier(refusesAt), body.length))
            passed += piece.length;
        };
        await expect(reading()).rejects.toBe(WRONG);
        expect(passed).toBeLessThanOrEqual(Math.max(0, body.length - HOLD_BACK_BYTES));
      }),
      { numRuns: 100 },
    );
  });

  it('with more bytes than announced holds back the last piece of what was announced', async () => {
    const body = noise(300_000, 5);
    const seen: number[] = [];
    const reading = async (): Promise<void> => {
      for await (const piece of heldBack(cut(body, [100_000, 100_000, 100_000]), verifier(2), 200_000))
        seen.push(piece.length);
    };
    await expect(reading()).rejects.toBe(WRONG);
    expect(total(seen)).toBe(200_000 - HOLD_BACK_BYTES);
  });
});

describe('resuming', () => {
  /** A body from a position, that breaks after so many bytes; null goes on to its end. */
  async function* broken(
    body: Uint8Array,
    from: number,
    after: number | null,
  ): AsyncGenerator<Uint8Array, void, void> {
    const end = after === null ? body.length : Math.min(body.length, from + after);
    for (let at = from; at < end; at += 700) yield body.slice(at, Math.min(end, at + 700));
    if (after !== null && from + after < body.length) {
      throw new TransportError('broken', 'the connection broke');
    }
  }

  it('gives the bytes of one whole body, wherever its connection breaks', async () => {
    const breaks = fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 20_000 }), breaks, async (size, points) => {
        const body = noise(size, 6);
        const left = [...points];
        const asked: number[] = [];
        const next = (from: number): ByteStream => broken(body, from, left.shift() ?? null);
        const seen: Uint8Array[] = [];
        for await (const chunk of resuming(next(0), (position) => {
          asked.push(position);
          return Promise.resolve(next(position));
        })) {
          seen.push(chunk);
        }
        expect(Buffer.concat(seen).equals(body)).toBe(true);
        expect(asked).toEqual([...asked].sort((a, b) => a - b));
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    ['a body that broke before its first byte', 0, 0],
    ['one that breaks without a byte each time', 1000, 3],
  ])('gives up on %s', async (_, first, reopened) => {
    const body = noise(5000, 7);
    let asked = 0;
    const reading = async (): Promise<number> => {
      let size = 0;
      for await (const chunk of resuming(broken(body, 0, first), (position) => {
        asked += 1;
        return Promise.resolve(broken(body, position, 0));
      })) {
        size += chunk.length;
      }
      return size;
    };
    await expect(reading()).rejects.toBeInstanceOf(TransportError);
    expect(asked).toBe(reopened);
  });

  it('passes on the break where the rest cannot be had, and any other error at once', async () => {
    const body = noise(5000, 8);
    const reading = async (stream: ByteStream): Promise<void> => {
      for await (const _ of resuming(stream, () => Promise.resolve(null)));
    };
    await expect(reading(broken(body, 0, 1000))).rejects.toThrow('the connection broke');
    const other = async function* (): AsyncGenerator<Uint8Array, void, void> {
      yield body;
      throw WRONG;
    };
    await expect(reading(other())).rejects.toBe(WRONG);
  });
});

describe('a budget', () => {
  it('never gives out more than its limit, and gets back each reservation once', () => {
    const steps = fc.array(fc.oneof(fc.record({ take: fc.nat(60) }), fc.record({ release: fc.nat(10) })));
    fc.assert(
      fc.property(fc.nat(100), steps, (limit, taken) => {
        let last = 0;
        const budget = createBudget(limit, (reserved) => (last = reserved));
        const held: NonNullable<ReturnType<typeof budget.reserve>>[] = [];
        const given: typeof held = [];
        for (const step of taken) {
          if ('take' in step) {
            const room = budget.reserve(step.take);
            const before = total(held.map(({ bytes }) => bytes));
            expect(room === null).toBe(before + step.take > limit);
            if (room !== null) held.push(room);
          } else {
            const [room] = held.splice(step.release % Math.max(1, held.length), 1);
            room?.release();
            if (room !== undefined) given.push(room);
            // A second release must take nothing away from others.
            given[0]?.release();
          }
          expect(budget.reserved).toBe(total(held.map(({ bytes }) => bytes)));
          expect(budget.reserved).toBeLessThanOrEqual(limit);
          expect(last).toBe(budget.reserved);
        }
      }),
    );
  });
});
