import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Justification, MetadataStore, Verification } from '../../../src/database/metadata-store.ts';
import type { MetadataStoreSubject } from './metadata-store.contract.ts';
import { IndexModel, withoutId, withoutIds } from './model.ts';
import { hashOf, HOUR, KEY, keyOf, narOf, NOW, pathOf, sorted, storedNar } from './records.ts';

type Step = fc.AsyncCommand<IndexModel, MetadataStore>;

/** Few paths and NARs, so that the steps meet each other. */
const small = fc.integer({ min: 1, max: 5 });
const time = fc.integer({ min: 0, max: 5 }).map((hours) => NOW + hours * (HOUR / 2 + 1));
const size = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 2 ** 31, max: 2 ** 44 }));
const justification = fc.constantFrom<Justification>(KEY, { kind: 'content-address' }, { kind: 'pushed' });
const verification = fc.constantFrom<Verification>('none', 'file', 'nar');
/** Added to the revision or generation that is right. */
const offset = fc.constantFrom(0, 0, 0, 1, -1);
const path = fc
  .tuple(small, fc.array(fc.integer({ min: 1, max: 8 }), { maxLength: 4 }), justification, fc.nat(99))
  .map(([number, references, justification, narSize]) =>
    pathOf(number, references, { justification, narSize }),
  );
const nar = fc
  .tuple(small, fc.option(size), fc.boolean())
  .map(([number, fileSize, sourced]) => narOf(number, { fileSize, ...(sourced ? {} : { source: null }) }));

/** A step: what both do, and that both answer the same. */
function step(name: string, act: (model: IndexModel, store: MetadataStore) => Promise<void>): Step {
  return { check: () => true, run: act, toString: () => name };
}

function show(name: string, values: unknown): string {
  return `${name} ${JSON.stringify(values)}`;
}

const steps: readonly fc.Arbitrary<Step>[] = [
  fc.tuple(path, nar).map(([path, nar]) =>
    step(show('recordPath', [path, nar]), async (model, store) => {
      model.recordPath(path, nar);
      expect(withoutIds(await store.recordPath(path, nar))).toEqual(model.getPath(path.hash));
    }),
  ),
  fc.tuple(path, nar, offset).map(([path, nar, offset]) =>
    step(show('replacePath', [path, nar, offset]), async (model, store) => {
      const revision = (model.paths.get(path.hash)?.revision ?? 1) + offset;
      model.replacePath(path, nar, revision);
      expect(withoutIds(await store.replacePath(path, nar, revision))).toEqual(model.getPath(path.hash));
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

/** Everything that can be asked, against the model. */
async function expectEqual(model: IndexModel, store: MetadataStore): Promise<void> {
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

/**
 * Random histories against `IndexModel`, which is small enough to be believed.
 *
 * @param numRuns how many histories
 */
export function testModel(subject: MetadataStoreSubject, numRuns: number = 100): void {
  describe('whatever is done', () => {
    it('answers and totals are those of the model', async () => {
      await fc.assert(
        fc.asyncProperty(fc.commands([...steps], { maxCommands: 60 }), async (commands) => {
          const place = await subject.create();
          const store = await place.open();
          const model = new IndexModel();
          try {
            await fc.asyncModelRun(() => ({ model, real: store }), commands);
            await expectEqual(model, store);
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
