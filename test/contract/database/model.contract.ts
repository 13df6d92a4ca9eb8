import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { IndexStore } from '../../../src/database/index-store.ts';
import {
  BannedPathError,
  type Justification,
  type PathWithNar,
  type Verification,
} from '../../../src/database/metadata-store.ts';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { withoutId, withoutIds } from './model.ts';
import { hashOf, KEY, keyOf, narOf, pathOf, sorted, storedNar } from './records.ts';
import { UpkeepModel } from './upkeep-model.ts';
import {
  expectUpkeepEqual,
  offset,
  show,
  small,
  type Step,
  step,
  time,
  upkeepSteps,
} from './upkeep-steps.contract.ts';

const size = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 2 ** 31, max: 2 ** 44 }));
const justification = fc.constantFrom<Justification>(KEY, { kind: 'content-address' }, { kind: 'pushed' });
const verification = fc.constantFrom<Verification>('none', 'file', 'nar');
const path = fc
  .tuple(small, fc.array(fc.integer({ min: 1, max: 8 }), { maxLength: 4 }), justification, fc.nat(99))
  .map(([number, references, justification, narSize]) =>
    pathOf(number, references, { justification, narSize }),
  );
const nar = fc
  .tuple(small, fc.option(size), fc.boolean())
  .map(([number, fileSize, sourced]) => narOf(number, { fileSize, ...(sourced ? {} : { source: null }) }));

/** That it is the record of the model, or that the path is banned there too. */
async function expectRecorded(
  model: UpkeepModel,
  hash: string,
  recorded: Promise<PathWithNar>,
): Promise<void> {
  if (model.bans.has(hash)) await expect(recorded).rejects.toThrow(BannedPathError);
  else expect(withoutIds(await recorded)).toEqual(model.getPath(hash));
}

const steps: readonly fc.Arbitrary<Step>[] = [
  fc.tuple(path, nar).map(([path, nar]) =>
    step(show('recordPath', [path, nar]), async (model, store) => {
      model.recordPath(path, nar);
      await expectRecorded(model, path.hash, store.recordPath(path, nar));
    }),
  ),
  fc.tuple(path, nar, offset).map(([path, nar, offset]) =>
    step(show('replacePath', [path, nar, offset]), async (model, store) => {
      const revision = (model.paths.get(path.hash)?.revision ?? 1) + offset;
      model.replacePath(path, nar, revision);
      await expectRecorded(model, path.hash, store.replacePath(path, nar, revision));
    }),
  ),
  fc
    .tuple(small, offset, fc.array(fc.string(), { maxLength: 3 }), justification)
    .map(([number, offset, signatures, justification]) =>
      step(show('rejustifyPath', [number, offset, signatures, justification]), async (model, store) => {
        const hash = hashOf(number);
        const revision = (model.paths.get(hash)?.revision ?? 1) + offset;
        const change = { signatures, justification };
        const expected = model.rejustifyPath(hash, revision, change);
        expect(await store.rejustifyPath(hash, revision, change)).toBe(expected);
      }),
    ),
  fc.tuple(small, size, verification, time).map(([number, fileSize, verification, at]) =>
    step(show('markPresent', [number, fileSize, verification, at]), async (model, store) => {
      const stored = storedNar(number, { fileSize, verification, at });
      const expected = model.markPresent(keyOf(number), stored);
      expect(await store.markPresent(keyOf(number), stored)).toBe(expected);
    }),
  ),
  fc.tuple(small, offset).map(([number, offset]) =>
    step(show('markAbsent', [number, offset]), async (model, store) => {
      const generation = (model.nars.get(keyOf(number))?.generation ?? 0) + offset;
      const expected = model.markAbsent(keyOf(number), generation);
      expect(await store.markAbsent(keyOf(number), generation)).toBe(expected);
    }),
  ),
  fc.tuple(small, offset).map(([number, offset]) =>
    step(show('markVerified', [number, offset]), async (model, store) => {
      const generation = (model.nars.get(keyOf(number))?.generation ?? 0) + offset;
      const expected = model.markVerified(keyOf(number), generation);
      expect(await store.markVerified(keyOf(number), generation)).toBe(expected);
    }),
  ),
  small.map((number) =>
    step(show('markQuarantined', number), async (model, store) => {
      model.markQuarantined(keyOf(number));
      await store.markQuarantined(keyOf(number), 'wrong');
    }),
  ),
  fc.array(fc.tuple(small, time), { maxLength: 8 }).map((touches) =>
    step(show('touch', touches), async (model, store) => {
      const accesses = touches.map(([number, at]) => ({ key: keyOf(number), at }));
      model.touch(accesses);
      await store.touch(accesses);
    }),
  ),
];

/** What a fill and a push do: the path, its NAR, and the body. */
const stored: readonly fc.Arbitrary<Step>[] = [
  fc.tuple(path, nar, time).map(([path, nar, at]) =>
    step(show('store', [path, nar, at]), async (model, store) => {
      model.recordPath(path, nar);
      await expectRecorded(model, path.hash, store.recordPath(path, nar));
      const body = storedNar(1, { fileSize: path.narSize, at });
      const expected = model.markPresent(nar.key, body);
      expect(await store.markPresent(nar.key, body)).toBe(expected);
    }),
  ),
];

/** Everything that can be asked, against the model. */
async function expectEqual(model: UpkeepModel, store: IndexStore): Promise<void> {
  expect(await store.totals()).toEqual(model.totals());
  const all = await store.listPaths(0, 100);
  expect(sorted(all.map(({ path }) => path.hash))).toEqual(sorted([...model.paths.keys()]));
  for (let number = 1; number <= 8; number++) {
    const [hash, key] = [hashOf(number), keyOf(number)];
    expect(withoutIds(await store.getPath(hash))).toEqual(model.getPath(hash));
    expect(sorted(await store.references(hash))).toEqual(model.references(hash));
    expect(sorted(await store.closure([hash]))).toEqual(model.closure([hash]));
    const known = await store.getNar(key);
    expect(known === null ? undefined : withoutId(known.nar)).toEqual(model.nars.get(key));
    const claiming = [...model.paths.values()].filter((path) => path.narKey === key);
    expect(sorted(known?.paths.map((path) => path.hash) ?? [])).toEqual(
      sorted(claiming.map((path) => path.hash)),
    );
  }
  const unverified = await store.listUnverified(0, 100);
  expect(sorted(unverified.map((nar) => nar.key))).toEqual(sorted(model.unverified().map((nar) => nar.key)));
}

/** Of up to 60 steps: without the size, they would be of ten. Most meet bodies that are stored. */
const histories = fc.commands([...steps, ...stored, ...stored, ...stored, ...upkeepSteps], {
  maxCommands: 60,
  size: 'max',
});

/**
 * Random histories against `UpkeepModel`, which is small enough to be believed.
 *
 * @param numRuns how many histories
 */
export function testModel(
  subject: MetadataStoreSubject,
  numRuns: number = subject.isSlow === true ? 8 : 25,
): void {
  describe('whatever is done', () => {
    it('answers and totals are those of the model', async () => {
      await fc.assert(
        fc.asyncProperty(histories, async (commands) => {
          const place = await subject.create();
          const store = await place.open();
          const model = new UpkeepModel();
          try {
            await fc.asyncModelRun(() => ({ model, real: store }), commands);
            await expectEqual(model, store);
            await expectUpkeepEqual(model, store);
          } finally {
            await store.close();
            await place.remove();
          }
        }),
        { numRuns },
      );
    });
  });
}
