import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { join } from 'node:path';
import { faultsOf, objectsIn } from '../support/bucket.ts';
import {
  closeCrashes,
  crash,
  mended,
  newDirectory,
  newPaths,
  openCrashes,
  start,
} from '../support/crash-run.ts';
import type { CrashingProcess } from '../support/crashing-process.ts';
import { download } from '../support/download.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { publish, withOtherBody } from '../support/signed-path.ts';
import { until } from '../support/test-cache.ts';

/** The step at which a wrong body is removed, with how often they are taken. */
const REMOVAL: Readonly<Record<string, number>> = { 'file-store:delete': 3, 'index.markQuarantined': 1 };

const REMOVALS = Object.entries(REMOVAL).flatMap(([step, times]) =>
  Array.from({ length: times }, (_, at) => [step, at + 1] as const),
);

let upstream: FaultServer;

beforeAll(async () => {
  upstream = await openCrashes();
});
afterAll(() => closeCrashes());

describe('law 2: a process that is killed leaves nothing or a whole object', () => {
  describe('at a random time', () => {
    let directory: string;
    let running: CrashingProcess;

    beforeAll(async () => {
      directory = await newDirectory();
      running = await start(directory);
    });
    afterAll(() => running.kill());

    it.each(Array.from({ length: 20 }, (_, at) => at))('in the %i. part of the way', async (at) => {
      const paths = await newPaths();
      await crash(running, paths, () => {
        // New ones in every run.
        setTimeout(() => void running.kill(), at * 15 + Math.random() * 15);
      });
      expect(running.isGone()).toBe(true);
      running = await mended(directory, paths);
    });
  });

  it.each(REMOVALS)('before %s, time %i, while it removes a wrong body', async (step, occurrence) => {
    const wrong = await withOtherBody({
      name: `wrong-${step.replace(':', '-')}-${occurrence}`,
      size: 70_000,
      compression: 'xz',
    });
    publish(upstream, wrong);
    const directory = await newDirectory();
    await crash(await start(directory), [wrong], (running) => running.arm(step, occurrence));
    // The index may still call it present, which is a hint only.
    expect(await faultsOf(join(directory, 'storage'))).toEqual([]);
    const next = await start(directory);
    try {
      const storage = join(directory, 'storage');
      const answered = await download(`${next.url}/${wrong.url}`);
      await until(async () => !(await objectsIn(storage)).some((key) => /^nar\/|narinfo$/.test(key)));
      expect(answered.status === 200 ? answered.bytes.equals(wrong.body) : answered.status).toSatisfy(
        (seen) => seen === true || seen === 404 || seen === 502,
      );
      await until(async () => (await download(`${next.url}/${wrong.url}`)).status === 404);
    } finally {
      await next.kill();
    }
  });
});
