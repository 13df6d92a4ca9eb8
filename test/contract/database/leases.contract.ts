import { describe, expect, it, onTestFinished } from 'vitest';
import type { LeaseStore } from '../../../src/database/lease-store.ts';
import { MetadataError } from '../../../src/database/metadata-store.ts';

/** A driver as the suite sees it. */
export interface LeaseStoreSubject {
  readonly name: string;
  /** A place without any lease, for one test. */
  create(): Promise<LeasePlace>;
  /** Why two handles cannot have one place open, for a driver where that is so. */
  readonly notShared?: string;
}

export interface LeasePlace {
  /** A handle; all handles of one place share their leases. */
  open(): Promise<LeaseHandle>;
  /** Removes it, when all handles are closed. */
  remove(): Promise<void>;
}

/** A driver of the index, of which only this matters here. */
export interface LeaseHandle {
  readonly leases: LeaseStore;
  close(): Promise<void>;
}

/** Long enough to be held for the whole of a test, in milliseconds. */
const LONG = 60_000;
/** Short enough to wait for its end: the clock is the database's, and goes by itself. */
const SHORT = 60;

/** What every driver promises in `lease-store.ts`, sentence by sentence. */
export function testLeaseStore(subject: LeaseStoreSubject): void {
  describe(`The leases on ${subject.name}`, () => {
    describe('taking', () => {
      it('gives a name that nobody holds, and to nobody else then', async () => {
        const leases = await freshLeases(subject);
        expect(await leases.take('fill:nar/a', 'one', LONG)).toBe(true);
        expect(await leases.take('fill:nar/a', 'two', LONG)).toBe(false);
      });

      it('keeps names apart, whatever they are', async () => {
        const leases = await freshLeases(subject);
        const names = ['a', 'A', 'a ', '', "a'b", 'ä', '%', 'x'.repeat(200), 'fill:nar/1.nar?x=1'];
        for (const name of names) expect(await leases.take(name, `of ${name}`, LONG), name).toBe(true);
        for (const name of names) expect(await leases.take(name, 'another', LONG), name).toBe(false);
        for (const name of names) expect(await leases.extend(name, `of ${name}`, LONG), name).toBe(true);
      });

      it('gives a name to exactly one of many who ask at the same time', async () => {
        const leases = await freshLeases(subject);
        const answers = await Promise.all(
          Array.from({ length: 30 }, (_, at) => leases.take('a', `token ${at}`, LONG)),
        );
        expect(answers.filter(Boolean)).toHaveLength(1);
      });

      it('gives it to its own token once more, from now on: the answer of the first request was lost', async () => {
        const leases = await freshLeases(subject);
        expect(await leases.take('a', 'one', SHORT)).toBe(true);
        expect(await leases.take('a', 'one', LONG)).toBe(true);
        await past(SHORT);
        expect(await leases.take('a', 'two', LONG)).toBe(false);
      });

      it('gives it to the next one when it has ended, and not before', async () => {
        const leases = await freshLeases(subject);
        const before = performance.now();
        expect(await leases.take('a', 'one', SHORT)).toBe(true);
        while (!(await leases.take('a', 'two', LONG))) await past(1);
        // Clocks tell whole milliseconds only.
        expect(performance.now() - before).toBeGreaterThan(SHORT - 2);
        expect(await leases.take('a', 'one', LONG)).toBe(false);
      });

      it('gives an ended lease to exactly one of many', async () => {
        const leases = await freshLeases(subject);
        await leases.take('a', 'one', 1);
        await past(20);
        const answers = await Promise.all(
          Array.from({ length: 30 }, (_, at) => leases.take('a', `token ${at}`, LONG)),
        );
        expect(answers.filter(Boolean)).toHaveLength(1);
      });

      it('keeps a lease of any sensible length', async () => {
        const leases = await freshLeases(subject);
        expect(await leases.take('a', 'one', 30 * 24 * 3_600_000)).toBe(true);
        expect(await leases.take('a', 'two', 1)).toBe(false);
      });
    });

    describe('extending', () => {
      it('lets a lease end later, counted from the extension', async () => {
        const leases = await freshLeases(subject);
        await leases.take('a', 'one', LONG);
        expect(await leases.extend('a', 'one', LONG)).toBe(true);
        expect(await leases.extend('a', 'one', SHORT)).toBe(true);
        await past(SHORT);
        expect(await leases.take('a', 'two', LONG)).toBe(true);
      });

      it('refuses a lease that is another’s, was released, or never was', async () => {
        const leases = await freshLeases(subject);
        expect(await leases.extend('a', 'one', LONG)).toBe(false);
        await leases.take('a', 'one', LONG);
        expect(await leases.extend('a', 'two', LONG)).toBe(false);
        await leases.release('a', 'one');
        expect(await leases.extend('a', 'one', LONG)).toBe(false);
        expect(await leases.take('a', 'two', LONG)).toBe(true);
      });

      it('refuses a lease that has ended, although nobody took it since', async () => {
        const leases = await freshLeases(subject);
        await leases.take('a', 'one', 1);
        await past(20);
        expect(await leases.extend('a', 'one', LONG)).toBe(false);
        expect(await leases.take('a', 'two', LONG)).toBe(true);
      });
    });

    describe('releasing', () => {
      it('frees the name at once, and may be done again', async () => {
        const leases = await freshLeases(subject);
        await leases.take('a', 'one', LONG);
        await leases.release('a', 'one');
        await leases.release('a', 'one');
        expect(await leases.take('a', 'two', LONG)).toBe(true);
      });

      it('does nothing to a lease that is another’s', async () => {
        const leases = await freshLeases(subject);
        await leases.take('a', 'one', LONG);
        await leases.release('a', 'two');
        await leases.release('b', 'one');
        expect(await leases.take('a', 'two', LONG)).toBe(false);
        expect(await leases.extend('a', 'one', LONG)).toBe(true);
      });
    });

    describe('cleaning up', () => {
      it('leaves every lease that is held, and those that ended a short while ago', async () => {
        const leases = await freshLeases(subject);
        await leases.take('held', 'one', LONG);
        await leases.take('ended', 'one', 1);
        await past(20);
        await leases.removeEnded(LONG);
        await leases.removeEnded(0);
        expect(await leases.extend('held', 'one', LONG)).toBe(true);
        expect(await leases.take('held', 'two', LONG)).toBe(false);
        expect(await leases.take('ended', 'two', LONG)).toBe(true);
      });
    });

    describe('over several handles', () => {
      it('what one takes, no other does until it is released', async (context) => {
        if (subject.notShared !== undefined) context.skip(subject.notShared);
        const [one, other] = await freshHandles(subject, 2);
        expect(await one?.leases.take('a', 'one', LONG)).toBe(true);
        expect(await other?.leases.take('a', 'two', LONG)).toBe(false);
        await other?.leases.release('a', 'two');
        expect(await one?.leases.extend('a', 'one', LONG)).toBe(true);
        // A retry may come over another connection.
        expect(await other?.leases.take('a', 'one', LONG)).toBe(true);
        await one?.leases.release('a', 'one');
        expect(await other?.leases.take('a', 'two', LONG)).toBe(true);
      });

      it('each of many names goes to exactly one', async (context) => {
        if (subject.notShared !== undefined) context.skip(subject.notShared);
        const handles = await freshHandles(subject, 4);
        for (let number = 0; number < 25; number += 1) {
          const answers = await Promise.all(
            handles.map(({ leases }, at) => leases.take(`name ${number}`, `token ${at}`, LONG)),
          );
          expect(answers.filter(Boolean)).toHaveLength(1);
        }
      });
    });

    describe('reaching the database', () => {
      it('tells by ping, and names it without a secret', async () => {
        const leases = await freshLeases(subject);
        await expect(leases.ping()).resolves.toBeUndefined();
        expect(leases.description).toMatch(/^[a-z0-9]+:/);
        expect(leases.description).not.toMatch(/@|password/i);
      });

      it('throws a MetadataError that names the operation once the database is closed', async () => {
        const [handle] = await freshHandles(subject, 1);
        if (handle === undefined) throw new Error('No handle');
        const { leases } = handle;
        await handle.close();
        for (const [name, work] of [
          ['take', () => leases.take('a', 'one', LONG)],
          ['extend', () => leases.extend('a', 'one', LONG)],
          ['release', () => leases.release('a', 'one')],
          ['removeEnded', () => leases.removeEnded(0)],
          ['ping', () => leases.ping()],
        ] as const) {
          const error: unknown = await work().then(
            () => null,
            (error: unknown) => error,
          );
          expect(error, name).toBeInstanceOf(MetadataError);
          expect(String(error)).toContain(name);
        }
      });
    });
  });
}

async function freshLeases(subject: LeaseStoreSubject): Promise<LeaseStore> {
  const [handle] = await freshHandles(subject, 1);
  if (handle === undefined) throw new Error('No handle');
  return handle.leases;
}

/** Handles on a place of the running test, closed and removed after it. */
async function freshHandles(subject: LeaseStoreSubject, count: number): Promise<readonly LeaseHandle[]> {
  const place = await subject.create();
  const handles: LeaseHandle[] = [];
  onTestFinished(async () => {
    for (const handle of handles) await handle.close();
    await place.remove();
  });
  while (handles.length < count) handles.push(await place.open());
  return handles;
}

/** Lets so many milliseconds of the database's clock pass, which no test can set. */
function past(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds + 5);
  });
}
