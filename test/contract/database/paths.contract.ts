import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Justification, MetadataError, type NewPath } from '../../../src/database/metadata-store.ts';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { hashOf, KEY, keyOf, narOf, NOW, pathOf, record, sorted, storedNar } from './records.ts';
import { freshStore } from './subject.ts';

const JUSTIFICATIONS: readonly Justification[] = [
  KEY,
  { kind: 'content-address' },
  { kind: 'unsigned-upstream', upstream: 'https://unsigned.example.org/x' },
  { kind: 'pushed' },
];

export function testPaths(subject: MetadataStoreSubject): void {
  describe('paths', () => {
    it('gives null for a path that is not recorded', async () => {
      const store = await freshStore(subject);
      expect(await store.getPath(hashOf(1))).toBeNull();
      expect(await store.getPath('')).toBeNull();
      expect(await store.getPath("'; drop table paths; --")).toBeNull();
    });

    it('gives null for a hash that is only referred to', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2]);
      expect(await store.getPath(hashOf(2))).toBeNull();
    });

    it('gives back a path and its NAR as they were recorded', async () => {
      const store = await freshStore(subject);
      const path = pathOf(1, [3, 1, 2], { extra: [['Rating', '5 of 5']], ca: 'fixed:r:sha256:abc' });
      const answer = await store.recordPath(path, narOf(1));
      expect(answer.path).toMatchObject({ ...path, narKey: keyOf(1) });
      expect(answer.nar).toMatchObject({
        ...narOf(1),
        state: 'known',
        verification: 'none',
        generation: 0,
        lastAccess: 0,
      });
      expect(await store.getPath(path.hash)).toEqual(answer);
    });

    it('keeps null where nothing is known', async () => {
      const store = await freshStore(subject);
      const path = pathOf(1, [], { deriver: null, ca: null, origin: null, signatures: [] });
      const nar = narOf(1, { fileHash: null, fileSize: null, source: null });
      const answer = await store.recordPath(path, nar);
      expect(answer.path).toMatchObject(path);
      expect(answer.nar).toMatchObject(nar);
    });

    it.each(JUSTIFICATIONS)('keeps the justification $kind', async (justification) => {
      const store = await freshStore(subject);
      await store.recordPath(pathOf(1, [], { justification }), narOf(1));
      expect((await store.getPath(hashOf(1)))?.path.justification).toEqual(justification);
    });

    it('keeps every string and every size exactly', async () => {
      const store = await freshStore(subject);
      const string = fc.string({ unit: 'grapheme', maxLength: 30 });
      const awkward = fc.oneof(string, fc.constantFrom('', '"', '\\', '[]', 'null', "'; --", 'ä€😀', '\n'));
      let number = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.record({
            deriver: fc.option(awkward),
            ca: fc.option(awkward),
            origin: fc.option(awkward),
            signatures: fc.array(awkward, { maxLength: 4 }),
            extra: fc.array(fc.tuple(awkward, awkward), { maxLength: 4 }),
            narSize: fc.maxSafeNat(),
            fileSize: fc.option(fc.maxSafeNat()),
            references: fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 12 }),
            recordedAt: fc.maxSafeNat(),
          }),
          async ({ fileSize, references, ...change }) => {
            number++;
            const path = pathOf(number, references, change);
            const nar = narOf(number, { fileSize });
            await store.recordPath(path, nar);
            const known = await store.getPath(path.hash);
            expect(known?.path).toMatchObject(path);
            expect(known?.nar).toMatchObject(nar);
          },
        ),
        { numRuns: 100 },
      );
    });

    it('lets the first record of a path win', async () => {
      const store = await freshStore(subject);
      const first = await record(store, 1, [2]);
      const later = pathOf(1, [3], {
        narHash: `sha256:${'9'.repeat(52)}`,
        origin: 'https://other.example.org',
      });
      expect(await store.recordPath(later, narOf(2))).toEqual(first);
      expect(await store.getPath(hashOf(1))).toEqual(first);
      expect(await store.references(hashOf(1))).toEqual([hashOf(2)]);
    });

    it('records the NAR of a path that came too late, without a path', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await store.recordPath(pathOf(1), narOf(2));
      expect(await store.getNar(keyOf(2))).toMatchObject({ nar: narOf(2), paths: [] });
    });

    it('lets the first record of a NAR win', async () => {
      const store = await freshStore(subject);
      const first = await record(store, 1);
      const second = await store.recordPath(
        pathOf(2),
        narOf(1, { fileSize: 7, fileHash: null, source: null }),
      );
      expect(second.nar).toEqual(first.nar);
      expect(second.path.hash).toBe(hashOf(2));
    });

    it('keeps the NAR as it became when another path claims it', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      await store.markPresent(keyOf(1), storedNar(1));
      const answer = await store.recordPath(pathOf(2), narOf(1));
      expect(answer.nar).toMatchObject({ state: 'present', generation: 1 });
    });

    it.each([
      ['a NAR size beyond 2^53', pathOf(1, [], { narSize: 2 ** 53 }), narOf(1)],
      ['a NAR size below 0', pathOf(1, [], { narSize: -1 }), narOf(1)],
      ['a NAR size that is no number', pathOf(1, [], { narSize: Number.NaN }), narOf(1)],
      ['a file size with a fraction', pathOf(1), narOf(1, { fileSize: 0.5 })],
      ['a hash part that is too short', pathOf(1, [], { hash: 'abc' }), narOf(1)],
      ['a reference with a space', pathOf(1, [], { references: [`${hashOf(2)}-a b`] }), narOf(1)],
      ['a reference that is a full path', pathOf(1, [], { references: [pathOf(2).storePath] }), narOf(1)],
    ])('refuses %s and records nothing', async (_, path, nar) => {
      const store = await freshStore(subject);
      await expect(store.recordPath(path, nar)).rejects.toThrow(MetadataError);
      await expect(store.recordPath(path, nar)).rejects.toThrow(/recordPath.*Cannot record/);
      expect(await store.listPaths(0, 10)).toEqual([]);
      expect(await store.getNar(nar.key)).toBeNull();
    });
  });

  describe('replacing a path', () => {
    const replacement: NewPath = pathOf(1, [4, 1], {
      narHash: `sha256:${'7'.repeat(52)}`,
      narSize: 4_000_000_000,
      deriver: null,
      ca: 'text:sha256:abc',
      signatures: ['other-1:abc', 'own-1:def'],
      extra: [['Name', 'value']],
      justification: { kind: 'content-address' },
      origin: 'https://other.example.org',
      recordedAt: NOW + 5,
    });

    it('replaces every fact at the expected revision, and the edges', async () => {
      const store = await freshStore(subject);
      const first = await record(store, 1, [2, 3]);
      const second = await store.replacePath(replacement, narOf(2), first.path.revision);
      expect(second.path).toMatchObject({ ...replacement, id: first.path.id, narKey: keyOf(2) });
      expect(second.path.revision).toBeGreaterThan(first.path.revision);
      expect(second.nar).toMatchObject(narOf(2));
      expect(await store.getPath(hashOf(1))).toEqual(second);
      expect(await store.references(hashOf(1))).toEqual([hashOf(4)]);
    });

    it('moves the path from the old NAR to the new one, and both stay', async () => {
      const store = await freshStore(subject);
      const first = await record(store, 1);
      await store.replacePath(replacement, narOf(2), first.path.revision);
      expect((await store.getNar(keyOf(1)))?.paths).toEqual([]);
      expect((await store.getNar(keyOf(2)))?.paths.map((path) => path.hash)).toEqual([hashOf(1)]);
    });

    it('changes nothing of the path at another revision, and answers what is stored', async () => {
      const store = await freshStore(subject);
      const first = await record(store, 1, [2]);
      const answer = await store.replacePath(replacement, narOf(2), first.path.revision + 1);
      expect(answer).toEqual(first);
      expect(await store.getPath(hashOf(1))).toEqual(first);
      expect(await store.references(hashOf(1))).toEqual([hashOf(2)]);
      expect((await store.getNar(keyOf(2)))?.paths).toEqual([]);
    });

    it('replaces once where two replace the same revision', async () => {
      const store = await freshStore(subject);
      const { path } = await record(store, 1);
      const won = await store.replacePath(replacement, narOf(2), path.revision);
      const lost = await store.replacePath(pathOf(1, [9]), narOf(3), path.revision);
      expect(lost).toEqual(won);
      expect(await store.references(hashOf(1))).toEqual([hashOf(4)]);
    });

    it('records a path that is not there, once, whatever the revision', async () => {
      const store = await freshStore(subject);
      const recorded = await store.replacePath(pathOf(1, [2]), narOf(1), 1);
      expect(recorded.path).toMatchObject(pathOf(1, [2]));
      expect(recorded.path.revision).toBe((await record(store, 2)).path.revision);
      expect(await store.references(hashOf(1))).toEqual([hashOf(2)]);
    });

    it('keeps a NAR that is there already as it is', async () => {
      const store = await freshStore(subject);
      const { path } = await record(store, 1);
      await record(store, 2);
      await store.markPresent(keyOf(2), storedNar(2));
      const answer = await store.replacePath(replacement, narOf(2, { fileSize: 1 }), path.revision);
      expect(answer.nar).toMatchObject({ state: 'present', fileSize: 502 });
    });
  });

  describe('justifying a path anew', () => {
    const change = { signatures: ['a:b', 'ü:c'], justification: { kind: 'pushed' } } as const;

    it('replaces signatures and justification only, and the revision grows by 1', async () => {
      const store = await freshStore(subject);
      const before = await record(store, 1, [2]);
      expect(await store.rejustifyPath(hashOf(1), before.path.revision, change)).toBe(true);
      expect(await store.getPath(hashOf(1))).toEqual({
        nar: before.nar,
        path: { ...before.path, ...change, revision: before.path.revision + 1 },
      });
      expect(await store.references(hashOf(1))).toEqual([hashOf(2)]);
    });

    it('says no at another revision and for an unknown path, and changes nothing', async () => {
      const store = await freshStore(subject);
      const before = await record(store, 1, [2]);
      expect(await store.rejustifyPath(hashOf(1), before.path.revision + 1, change)).toBe(false);
      expect(await store.rejustifyPath(hashOf(2), before.path.revision, change)).toBe(false);
      expect(await store.rejustifyPath(hashOf(3), before.path.revision, change)).toBe(false);
      expect(await store.getPath(hashOf(1))).toEqual(before);
    });
  });

  describe('listing paths', () => {
    it('pages through more than 1,000 paths by id, each once', async () => {
      const store = await freshStore(subject);
      const total = 1203;
      for (let number = 1; number <= total; number++) await record(store, number);
      const seen: string[] = [];
      let after = 0;
      for (;;) {
        const page = await store.listPaths(after, 100);
        expect(page.length).toBeLessThanOrEqual(100);
        for (const { path, nar } of page) {
          expect(path.id).toBeGreaterThan(after);
          expect(nar.key).toBe(path.narKey);
          after = path.id;
          seen.push(path.hash);
        }
        if (page.length === 0) break;
      }
      expect(sorted(seen)).toEqual(sorted(Array.from({ length: total }, (_, at) => hashOf(at + 1))));
      expect(await store.listPaths(0, 5000)).toHaveLength(total);
    });

    it('gives what getPath gives, and no hashes that are only referred to', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [7, 8]);
      expect(await store.listPaths(0, 10)).toEqual([await store.getPath(hashOf(1))]);
    });

    it('lists a path recorded during a sweep after those seen before, though it was referred to earlier', async () => {
      const store = await freshStore(subject);
      await record(store, 1, [2]);
      const last = await record(store, 3);
      await record(store, 2);
      const rest = await store.listPaths(last.path.id, 10);
      expect(rest.map(({ path }) => path.hash)).toEqual([hashOf(2)]);
    });

    it('gives nothing for a limit of 0 or less', async () => {
      const store = await freshStore(subject);
      await record(store, 1);
      expect(await store.listPaths(0, 0)).toEqual([]);
      expect(await store.listPaths(0, -1)).toEqual([]);
    });
  });
}
