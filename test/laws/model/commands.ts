import fc from 'fast-check';
import { expect } from 'vitest';
import { adoptStored } from '../../../src/cache/adopt-stored.ts';
import { PinError } from '../../../src/cache/pins.ts';
import { reindex } from '../../../src/cache/reindex.ts';
import { checkBodies, checkBucket, checkEviction, checkSettled, fetchPath } from './checks.ts';
import type { Model } from './model.ts';
import type { System } from './system.ts';
import { closureOf, OBTAINABLE_NAMES, PUSHED_NAMES, type WorldPath } from './world.ts';

type Command = fc.AsyncCommand<Model, System>;

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;

/** Steps after which the process dies in the middle of a command; null mostly. */
const crashAt = fc.option(fc.integer({ min: 1, max: 60 }), { freq: 7 });
const obtainable = fc.constantFrom(...OBTAINABLE_NAMES);
const pushable = fc.constantFrom(...PUSHED_NAMES);
/** Hours that pass before an eviction: the grace of what was used may be over. */
const later = fc.constantFrom(0, 1, 1, 1, 24 * 6);
const pinnable = fc.constantFrom(...OBTAINABLE_NAMES, ...PUSHED_NAMES);

/** One after the other, with what must hold after each. Some are likelier than others, for the limit to be passed often. */
export const commands: fc.Arbitrary<Iterable<Command>> = fc.commands(
  [
    fc.tuple(obtainable, crashAt).map(([name, crash]) => read([name], crash)),
    ...several(
      3,
      fc
        .tuple(fc.uniqueArray(fc.oneof(obtainable, pushable), { minLength: 4, maxLength: 9 }), crashAt)
        .map(([names, crash]) => read(names, crash)),
    ),
    ...several(
      4,
      fc.tuple(pushable, crashAt).map(([name, crash]) => push(name, crash)),
    ),
    ...several(
      5,
      fc.tuple(later, crashAt).map(([hours, crash]) => evict(hours, [], crash)),
    ),
    fc
      .tuple(later, fc.uniqueArray(obtainable, { minLength: 1, maxLength: 3 }), crashAt)
      .map(([hours, names, crash]) => evict(hours, names, crash)),
    fc
      .tuple(pinnable, fc.option(fc.integer({ min: 1, max: 20 })), crashAt)
      .map(([root, days, crash]) => pin(root, days, crash)),
    fc.tuple(pinnable, crashAt).map(([root, crash]) => unpin(root, crash)),
    fc.constantFrom(24, 24 * 9, -1, -24).map(jump),
    fc.constant(null).map(restart),
    crashAt.map(settle),
    crashAt.map(rebuild),
  ],
  { maxCommands: 40, size: 'max' },
);

function several<T>(times: number, one: fc.Arbitrary<T>): readonly fc.Arbitrary<T>[] {
  return Array.from({ length: times }, () => one);
}

/** @param act what both do @param crashed what it leaves open if the process dies */
function command(
  name: string,
  act: (model: Model, system: System) => Promise<void>,
  crash: number | null = null,
  crashed: (model: Model, now: number) => void = () => undefined,
): Command {
  let died: string | null = null;
  return {
    check: () => true,
    async run(model, system) {
      died = await system.attempt(crash, () => act(model, system));
      if (died !== null) {
        model.unsettled = true;
        crashed(model, system.clock.now());
      }
      await checkBucket(model, system);
    },
    toString: () => (died === null ? name : `${name}, died before ${died}`),
  };
}

function read(names: readonly string[], crash: number | null): Command {
  return command(
    `read ${names.join(' ')}`,
    async (model, system) => {
      await Promise.all(names.map((name) => readOne(model, system, name, names.length === 1)));
    },
    crash,
    (model, now) => useAll(model, now, names),
  );
}

/** What is stored of a path, or can be had, is answered. @param alone whether nothing else is asked for */
async function readOne(model: Model, system: System, name: string, alone: boolean): Promise<void> {
  const path = model.path(name);
  // What is stored meanwhile may have a pushed one evicted.
  const isSafe = alone || !model.isOldEnough(name, system.clock.now());
  const mustBeThere = path.obtainable || (model.pushed.has(name) && isSafe);
  const { narInfo, nar, whole } = await fetchPath(system, path);
  if (mustBeThere)
    expect({ name, narInfo, nar, whole }).toEqual({ name, narInfo: 200, nar: 200, whole: true });
  else if (nar === 200) expect({ name, whole }).toEqual({ name, whole: true });
  model.use(name, system.clock.now());
  if (narInfo === 200) model.known.add(name);
  if (whole && path.obtainable) model.answered.add(name);
}

/** As `nix copy` does: NARs first, then narinfos, each after those that it refers to. Then it is taken into the index. */
function push(root: string, crash: number | null): Command {
  return command(
    `push ${root}`,
    async (model, system) => {
      const { services } = system.cache();
      const { storage, platform } = services;
      const closure = [...closureOf(model.world, root)]
        .filter((name) => PUSHED_NAMES.includes(name))
        .map((name) => model.path(name))
        .toSorted(byWorld(model));
      for (const { name } of closure) model.perhapsPushed.add(name);
      const missing: WorldPath[] = [];
      for (const path of closure)
        if ((await storage.head(`${path.hash}.narinfo`)) === null) missing.push(path);
      for (const { url, body } of missing) await storage.put(url, { kind: 'bytes', bytes: body });
      for (const { hash, narInfo } of missing) {
        await storage.put(`${hash}.narinfo`, { kind: 'bytes', bytes: new TextEncoder().encode(narInfo) });
      }
      for (const { name, hash } of closure) {
        const adopted = await adoptStored(services, hash, { bucketIsTrusted: true, allowUnsigned: false });
        model.use(name, platform.clock.now());
        if (adopted.kind !== 'adopted' && adopted.kind !== 'known') {
          throw new Error(`${name} was not adopted: ${JSON.stringify(adopted)}`);
        }
        model.known.add(name);
        // An eviction that died goes on with it: the one who pushes has to come again.
        if (adopted.known.nar.state === 'evicting') return;
        // Used when it was stored, by the clock of the bucket, but not in the future; what was known may be older.
        const storedAt = Math.min(Date.now(), platform.clock.now());
        if (!model.pushed.has(name)) model.pushed.set(name, adopted.kind === 'adopted' ? storedAt : 0);
      }
    },
    crash,
    (model, now) => useAll(model, now, closureOf(model.world, root)),
  );
}

function byWorld(model: Model): (one: WorldPath, other: WorldPath) => number {
  const order = [...model.world.keys()];
  return (one, other) => order.indexOf(one.name) - order.indexOf(other.name);
}

function pin(root: string, days: number | null, crash: number | null): Command {
  return command(
    `pin ${root}${days === null ? '' : ` for ${days} days`}`,
    async (model, system) => {
      const expiresAt = days === null ? null : system.clock.now() + days * DAY_MS;
      const before = model.pins.get(root);
      const { storePath, obtainable: exists } = model.path(root);
      model.pins.set(root, { root, expiresAt, certain: false });
      try {
        await system.cache().cache.pins.put({ name: root, storePath, expiresAt });
      } catch (error) {
        if (!(error instanceof PinError) || exists || model.pushed.has(root)) throw error;
        if (before === undefined) model.pins.delete(root);
        else model.pins.set(root, before);
        return;
      }
      model.pins.set(root, { root, expiresAt, certain: true });
      // Its closure was looked up, at the upstream too.
      const isFound = ({ name, obtainable: isThere }: WorldPath): boolean => isThere || model.known.has(name);
      for (const name of closureOf(model.world, root, isFound)) {
        if (isFound(model.path(name))) model.known.add(name);
      }
    },
    crash,
  );
}

function unpin(root: string, crash: number | null): Command {
  return command(
    `unpin ${root}`,
    async (model, system) => {
      const pinned = model.pins.get(root);
      if (pinned !== undefined) model.pins.set(root, { ...pinned, certain: false });
      await system.cache().cache.pins.delete(root);
      model.pins.delete(root);
    },
    crash,
  );
}

/** @param names read meanwhile */
function evict(hours: number, names: readonly string[], crash: number | null): Command {
  const meanwhile = names.length === 0 ? '' : ` while reading ${names.join(' ')}`;
  return command(
    `evict ${hours} hours later${meanwhile}`,
    async (model, system) => {
      system.clock.jump(hours * HOUR_MS);
      const reading = Promise.all(names.map((name) => readOne(model, system, name, false)));
      const [report] = await Promise.all([system.cache().cache.evict(), reading]);
      if (names.length === 0) await checkEviction(model, system, report);
    },
    crash,
    (model, now) => useAll(model, now, names),
  );
}

function jump(hours: number): Command {
  return command(`jump ${hours} hours`, async (_model, system) => system.clock.jump(hours * HOUR_MS));
}

function restart(): Command {
  return command('restart', async (_model, system) => system.restart());
}

function settle(crash: number | null): Command {
  return command(
    'verify and repair',
    async (model, system) => {
      await checkSettled(model, system);
      // What is adopted counts as used when it was stored.
      useAll(model, system.clock.now(), model.world.keys());
      await checkBucket(model, system);
      await checkBodies(model, system);
    },
    crash,
  );
}

/** The index is lost, and made again from the bucket; again, where that dies. */
function rebuild(crash: number | null): Command {
  const rebuilt = async (_model: Model, system: System): Promise<void> => {
    await reindex(system.cache().services);
  };
  const { check, run, toString } = command('lose the index', rebuilt, crash);
  return {
    check,
    toString,
    async run(model, system) {
      await system.restartWithoutIndex();
      model.known.clear();
      for (const { name, hash } of model.world.values())
        if (model.seen.narInfos.has(hash)) model.known.add(name);
      // How old the bodies are, the bucket alone says, by the real clock.
      for (const name of model.pushed.keys()) model.pushed.set(name, 0);
      await run(model, system);
      await system.attempt(null, () => rebuilt(model, system));
      useAll(model, system.clock.now(), model.world.keys());
      await checkBucket(model, system);
    },
  };
}

function useAll(model: Model, now: number, names: Iterable<string>): void {
  for (const name of names) model.use(name, now);
}
