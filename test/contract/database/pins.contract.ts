import { describe, expect, it } from 'vitest';
import { BannedPathError } from '../../../src/database/metadata-store.ts';
import type { NewPin } from '../../../src/database/upkeep-store.ts';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { hashOf, keyOf, narOf, NOW, pathOf, record } from './records.ts';
import { evict, seen, stateOf, store } from './stored-nars.ts';
import { freshStore } from './subject.ts';

function pinOf(number: number, change: Partial<NewPin> = {}): NewPin {
  const { storePath, hash } = pathOf(number);
  return { name: `pin-${number}`, storePath, hash, createdAt: NOW, expiresAt: null, ...change };
}

export function testPins(subject: MetadataStoreSubject): void {
  describe('pins', () => {
    it('are listed by name, with what their closures hold', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { references: [2, 3, 4], size: 100 });
      await store(index, 2, { size: 20, nar: 2 });
      await index.recordPath(pathOf(3), narOf(2));
      await record(index, 5);
      await index.upkeep.putPin(pinOf(1, { name: 'b', expiresAt: NOW + 7 }));
      await index.upkeep.putPin(pinOf(5, { name: 'a' }));
      expect(await index.upkeep.listPins()).toEqual([
        { ...pinOf(5, { name: 'a' }), paths: 1, unknownPaths: 0, absentPaths: 1, presentBytes: 0 },
        {
          ...pinOf(1, { name: 'b', expiresAt: NOW + 7 }),
          paths: 4,
          unknownPaths: 1,
          absentPaths: 0,
          presentBytes: 120,
        },
      ]);
    });

    it('of one name replace each other', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { references: [2] });
      await store(index, 2);
      await store(index, 3);
      await index.upkeep.putPin(pinOf(1, { name: 'x' }));
      await index.upkeep.putPin(pinOf(3, { name: 'x', expiresAt: NOW + 1 }));
      const [only, ...others] = await index.upkeep.listPins();
      expect(others).toEqual([]);
      expect([only?.hash, only?.paths, only?.expiresAt]).toEqual([hashOf(3), 1, NOW + 1]);
      const evicting = await index.upkeep.markEvicting(await seen(index, 1, 2, 3), NOW);
      expect(evicting.map(({ key }) => key)).toEqual([keyOf(1), keyOf(2)]);
    });

    it('keep paths that become known later, once they are refreshed', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { references: [2] });
      await store(index, 3);
      await index.upkeep.putPin(pinOf(1));
      await store(index, 2, { references: [3] });
      expect((await index.upkeep.listPins())[0]?.paths).toBe(2);
      expect(await index.upkeep.refreshPins(NOW)).toEqual([]);
      expect((await index.upkeep.listPins())[0]?.paths).toBe(3);
      expect(await index.upkeep.markEvicting(await seen(index, 1, 2, 3), NOW)).toEqual([]);
    });

    it('keep a root that is not known at all yet', async () => {
      const index = await freshStore(subject);
      await index.upkeep.putPin(pinOf(1));
      expect((await index.upkeep.listPins())[0]).toMatchObject({ paths: 1, unknownPaths: 1 });
      await store(index, 1);
      expect(await index.upkeep.markEvicting(await seen(index, 1), NOW)).toEqual([]);
    });

    it('are told as keepers of paths that are not stored too, as are pushed paths that refer to them', async () => {
      const index = await freshStore(subject);
      await record(index, 1, [2]);
      await store(index, 3, { references: [4, 5], pushed: true });
      await store(index, 4, { pushed: true });
      await record(index, 5);
      await index.upkeep.putPin(pinOf(1, { expiresAt: NOW + 5 }));
      const keepers = async (now: number): Promise<readonly unknown[]> =>
        await Promise.all([1, 2, 3, 4, 5, 6].map((number) => index.upkeep.keeperOf(hashOf(number), now)));
      expect(await keepers(NOW)).toEqual(['pin', 'pin', null, 'referrer', null, null]);
      await evict(index, 3);
      expect(await keepers(NOW + 5)).toEqual([null, null, null, null, null, null]);
    });

    it('end when they are deleted, and are removed when they have expired', async () => {
      const index = await freshStore(subject);
      await store(index, 1);
      await store(index, 2);
      await index.upkeep.putPin(pinOf(1));
      await index.upkeep.putPin(pinOf(2, { expiresAt: NOW + 5 }));
      expect(await index.upkeep.refreshPins(NOW + 4)).toEqual([]);
      expect(await index.upkeep.refreshPins(NOW + 5)).toEqual(['pin-2']);
      expect(await index.upkeep.deletePin('pin-1')).toBe(true);
      expect(await index.upkeep.deletePin('pin-1')).toBe(false);
      expect(await index.upkeep.listPins()).toEqual([]);
      expect(await index.upkeep.markEvicting(await seen(index, 1, 2), NOW)).toHaveLength(2);
    });

    it('are summed with each NAR once, without those that have expired', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { references: [2], size: 100 });
      await store(index, 2, { size: 20 });
      await store(index, 3, { references: [2], size: 3 });
      await store(index, 4, { size: 4 });
      await index.upkeep.putPin(pinOf(1));
      await index.upkeep.putPin(pinOf(3, { expiresAt: NOW + 1 }));
      expect(await index.upkeep.pinnedTotals(NOW)).toEqual({ presentBytes: 123, presentNars: 3 });
      expect(await index.upkeep.pinnedTotals(NOW + 1)).toEqual({ presentBytes: 120, presentNars: 2 });
      await evict(index, 1);
      expect(await index.upkeep.pinnedTotals(NOW + 1)).toEqual({ presentBytes: 20, presentNars: 1 });
    });
  });
}

export function testBans(subject: MetadataStoreSubject): void {
  const ban = { hash: hashOf(1), storePath: pathOf(1).storePath, reason: 'it is bad', at: NOW };

  describe('paths that are removed', () => {
    it('are forgotten with their edges, and may come again', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { references: [2] });
      expect(await index.upkeep.removePath(hashOf(1))).toBe(true);
      expect(await index.upkeep.removePath(hashOf(1))).toBe(false);
      expect(await index.getPath(hashOf(1))).toBeNull();
      expect(await index.references(hashOf(1))).toEqual([]);
      expect(await stateOf(index, 1)).toBe('present');
      expect((await record(index, 1)).path.hash).toBe(hashOf(1));
    });
  });

  describe('bans', () => {
    it('remove the path, quarantine its NAR and refuse both from then on', async () => {
      const index = await freshStore(subject);
      await store(index, 1, { references: [2], size: 100 });
      await store(index, 2, { size: 20 });
      await index.upkeep.banPath(ban);
      expect(await index.getPath(hashOf(1))).toBeNull();
      expect(await index.references(hashOf(1))).toEqual([]);
      expect(await stateOf(index, 1)).toBe('quarantined');
      expect(await index.totals()).toEqual({ presentBytes: 20, presentNars: 1 });
      await expect(record(index, 1)).rejects.toThrow(BannedPathError);
      await expect(index.replacePath(pathOf(1), narOf(3), 1)).rejects.toThrow(BannedPathError);
      expect(await index.getPath(hashOf(1))).toBeNull();
    });

    it('may be of paths not known, and the first one of a path stays', async () => {
      const index = await freshStore(subject);
      await index.upkeep.banPath(ban);
      await index.upkeep.banPath({ ...ban, reason: 'another', at: NOW + 1 });
      await index.upkeep.banPath({ ...ban, hash: hashOf(0), storePath: pathOf(0).storePath });
      const listed = await index.upkeep.listBans();
      expect(listed).toEqual([{ ...ban, hash: hashOf(0), storePath: pathOf(0).storePath }, ban]);
      await expect(record(index, 1)).rejects.toThrow(BannedPathError);
    });

    it('leave a NAR alone that another path claims', async () => {
      const index = await freshStore(subject);
      await store(index, 1);
      await index.recordPath(pathOf(2), narOf(1));
      await index.upkeep.banPath(ban);
      expect(await stateOf(index, 1)).toBe('present');
      expect((await index.getNar(keyOf(1)))?.paths.map(({ hash }) => hash)).toEqual([hashOf(2)]);
    });

    it('are lifted with the quarantine that they brought, and no other', async () => {
      const index = await freshStore(subject);
      await store(index, 1);
      await store(index, 2);
      await index.markQuarantined(keyOf(2), 'wrong');
      await index.upkeep.banPath(ban);
      expect(await index.upkeep.unbanPath(hashOf(1))).toBe(true);
      expect(await index.upkeep.unbanPath(hashOf(1))).toBe(false);
      expect(await index.upkeep.listBans()).toEqual([]);
      expect([await stateOf(index, 1), await stateOf(index, 2)]).toEqual(['absent', 'quarantined']);
      expect((await record(index, 1)).nar.state).toBe('absent');
    });
  });
}
