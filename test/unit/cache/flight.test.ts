import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Flight, HOLD_BACK_BYTES } from '../../../src/cache/fill/flight.ts';
import { createMemorySpool } from '../../../src/spool/memory.ts';
import { leave } from '../../../src/stream/byte-stream.ts';
import { noise } from '../../support/signed-path.ts';

interface ReaderPlan {
  /** Joins before this chunk is appended. */
  readonly joinsBefore: number;
  /** Parts of the body, in thousandths. */
  readonly from: number;
  readonly to: number | null;
  /** Leaves after so many chunks; null stays. */
  readonly leavesAfter: number | null;
  /** Turns of the event loop between two chunks. */
  readonly pause: number;
}

interface Plan {
  readonly chunks: readonly number[];
  readonly sizeKnown: boolean;
  readonly outcome: 'verified' | 'failed';
  /** The spool takes no more than so many thousandths of the body. */
  readonly spoolLimit: number | null;
  /** There is no spool at all. */
  readonly unspooled?: boolean;
  readonly readers: readonly ReaderPlan[];
  readonly producerPause: number;
}

const thousandths = fc.integer({ min: 0, max: 1000 });

const plans: fc.Arbitrary<Plan> = fc.record({
  chunks: fc.array(fc.integer({ min: 1, max: 90_000 }), { minLength: 1, maxLength: 10 }),
  sizeKnown: fc.boolean(),
  outcome: fc.constantFrom('verified', 'failed'),
  spoolLimit: fc.option(thousandths),
  producerPause: fc.integer({ min: 0, max: 3 }),
  readers: fc.array(
    fc.record({
      joinsBefore: fc.integer({ min: 0, max: 10 }),
      from: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, thousandths),
      to: fc.option(thousandths, { freq: 2 }),
      leavesAfter: fc.option(fc.integer({ min: 0, max: 6 }), { freq: 2 }),
      pause: fc.integer({ min: 0, max: 5 }),
    }),
    { maxLength: 6 },
  ),
});

const FAILURE = new Error('the body is wrong');

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Runs a plan, and checks what every reader sees at every moment. */
async function run(plan: Plan): Promise<void> {
  const body = noise(
    plan.chunks.reduce((sum, chunk) => sum + chunk, 0),
    plan.chunks.length,
  );
  const spool = createMemorySpool(
    plan.spoolLimit === null ? {} : { fileLimit: Math.floor((body.length * plan.spoolLimit) / 1000) },
  );
  const events = { discarded: 0, unread: 0 };
  const file = plan.unspooled === true ? null : await spool.create('body');
  const flight = new Flight(file, plan.sizeKnown ? body.length : null, {
    onUnread: () => (events.unread += 1),
    onDiscarded: () => (events.discarded += 1),
  });
  const readers: Promise<void>[] = [];
  let verified = false;

  async function read({ from, to, leavesAfter, pause }: ReaderPlan): Promise<void> {
    const start = Math.min(Math.floor((body.length * from) / 1000), body.length - 1);
    const end =
      to === null ? null : Math.max(start, Math.min(Math.floor((body.length * to) / 1000), body.length - 1));
    const last = end ?? body.length - 1;
    const seen: Uint8Array[] = [];
    let position = start;
    const stream = flight.read(start, end);
    const iterator = stream[Symbol.asyncIterator]();
    try {
      for (let taken = 0; ; taken++) {
        if (taken === leavesAfter) {
          await leave(stream);
          return;
        }
        const result = await iterator.next();
        if (result.done === true) break;
        seen.push(result.value);
        position += result.value.length;
        const certain = plan.sizeKnown ? body.length : flight.written;
        if (!verified) expect(position).toBeLessThanOrEqual(certain - HOLD_BACK_BYTES);
        await turns(pause);
      }
    } catch (error) {
      expect(error).toBe(FAILURE);
      expect(Buffer.concat(seen).equals(body.subarray(start, position))).toBe(true);
      return;
    }
    // A clean end means every byte; before the whole was verified, only of a piece that lies before the last one.
    expect(Buffer.concat(seen).equals(body.subarray(start, last + 1))).toBe(true);
  }

  let at = 0;
  for (const [index, size] of plan.chunks.entries()) {
    for (const reader of plan.readers) {
      if (reader.joinsBefore === index && flight.joinable) readers.push(read(reader));
    }
    await flight.append(body.slice(at, at + size));
    at += size;
    await turns(plan.producerPause);
  }
  if (plan.outcome === 'verified') {
    verified = true;
    flight.verified();
    await expect(flight.whole()).resolves.toBeUndefined();
  } else {
    flight.fail(FAILURE);
    await expect(flight.whole()).rejects.toBe(FAILURE);
  }
  // The very last moment: a reader between the verification and the end of the commit.
  if (flight.joinable) readers.push(read({ joinsBefore: 0, from: 0, to: null, leavesAfter: null, pause: 1 }));
  const present = readers.length;
  flight.finish();
  expect(flight.joinable).toBe(false);
  await Promise.all(readers);
  await turns(2);
  expect(present).toBe(readers.length);
  expect(events.discarded).toBe(1);
}

describe('a flight', () => {
  it('gives every reader exactly the bytes or the failure, and nothing of the last piece before it is verified', async () => {
    await fc.assert(fc.asyncProperty(plans, run), { numRuns: 150, endOnFailure: true });
  });

  it('gives readers all bytes although the spool fails at any chunk', async () => {
    const withFault = plans.filter(({ readers }) => readers.length > 0);
    await fc.assert(
      fc.asyncProperty(withFault, thousandths, async (plan, spoolLimit) => {
        await run({
          ...plan,
          spoolLimit,
          outcome: 'verified',
          readers: plan.readers.map((reader) => ({ ...reader, joinsBefore: 0 })),
        });
      }),
      { numRuns: 100, endOnFailure: true },
    );
  });

  it('without a spool gives those who are there before the first byte all of it', async () => {
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        const readers = plan.readers.map((reader) => ({ ...reader, joinsBefore: 0 }));
        await run({ ...plan, readers, unspooled: true });
      }),
      { numRuns: 100, endOnFailure: true },
    );
  });

  it('without a spool cannot be joined later, nor once it is over', async () => {
    const flight = new Flight(null, 200_000, { onUnread: () => undefined, onDiscarded: () => undefined });
    expect([flight.isSpooled, flight.joinable, flight.isUnread]).toEqual([false, true, true]);
    await flight.append(noise(1000, 1));
    expect(flight.joinable).toBe(false);
    expect(flight.fail(FAILURE)).toBe(true);
    expect(flight.fail(FAILURE)).toBe(false);
    flight.finish();
    expect(flight.joinable).toBe(false);
  });

  it('says when the last reader left before the end, and frees the spool only after the last reader', async () => {
    const events: string[] = [];
    const flight = new Flight(await createMemorySpool().create('body'), 200_000, {
      onUnread: () => events.push('unread'),
      onDiscarded: () => events.push('discarded'),
    });
    const body = noise(200_000, 1);
    await flight.append(body.slice(0, 150_000));
    const [one, other] = [flight.read(0, null), flight.read(0, null)];
    await leave(one);
    expect(events).toEqual([]);
    await leave(other);
    await leave(other);
    expect(events).toEqual(['unread']);
    const last = flight.read(0, null)[Symbol.asyncIterator]();
    await flight.append(body.slice(150_000));
    flight.verified();
    flight.finish();
    await turns(2);
    expect(events).toEqual(['unread']);
    const seen: Uint8Array[] = [];
    for (let next = await last.next(); next.done !== true; next = await last.next()) seen.push(next.value);
    expect(Buffer.concat(seen).equals(body)).toBe(true);
    await turns(2);
    expect(events).toEqual(['unread', 'discarded']);
  });

  it('gives a reader that waits for the failure that failure, whatever it has read', async () => {
    const flight = new Flight(await createMemorySpool().create('body'), null, {
      onUnread: () => undefined,
      onDiscarded: () => undefined,
    });
    const waiting = flight.read(0, null)[Symbol.asyncIterator]().next();
    await flight.append(noise(1000, 1));
    flight.fail(FAILURE);
    await expect(waiting).rejects.toBe(FAILURE);
    flight.fail(new Error('a later one'));
    await expect(flight.whole()).rejects.toBe(FAILURE);
    flight.finish();
  });
});
