import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CrashingProcess } from '../support/crashing-process.ts';
import {
  closeCrashes,
  crash,
  expectWhole,
  fetchAll,
  mended,
  newDirectory,
  newPaths,
  openCrashes,
  start,
} from '../support/crash-run.ts';
import { until } from '../support/test-cache.ts';

/** The chunks of a spooled body are all alike: so many of them are enough. */
const MOST_APPENDS = 4;

await openCrashes();
const taken = await stepsOfAllFills();

/** Every write step of the fills of `newPaths`, as a process that lives takes them. */
async function stepsOfAllFills(): Promise<readonly string[]> {
  const paths = await newPaths();
  const running = await start(await newDirectory());
  await running.record();
  // What the start of the process writes comes first.
  await quiet(running);
  const before = running.steps.length;
  expectWhole(paths, await fetchAll(running, paths));
  await until(() => running.steps.includes('index.markVerified'));
  await quiet(running);
  await running.kill();
  return running.steps.slice(before);
}

async function quiet({ steps }: CrashingProcess): Promise<void> {
  for (let seen = -1; seen !== steps.length;) {
    seen = steps.length;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

/** Each step with the time at which it is taken, but for those that are taken only in a new place. */
function pointsOf(prefix: string): readonly (readonly [step: string, occurrence: number])[] {
  const steps = taken.filter((step) => step.startsWith(prefix) && step !== 'file-store:make-directory');
  return [...Map.groupBy(steps, (step) => step)].flatMap(([step, { length }]) =>
    Array.from(
      { length: step === 'spool:append' ? Math.min(length, MOST_APPENDS) : length },
      (_, at) => [step, at + 1] as const,
    ),
  );
}

afterAll(() => closeCrashes());

describe('law 2: a process that is killed leaves nothing or a whole object', () => {
  it('writes in these steps on its way through the fills, and is killed before each of them', () => {
    const made = taken.filter((step) => step === 'file-store:make-directory');
    expect(made.length).toBeGreaterThanOrEqual(1);
    expect([...new Set(taken)].sort()).toEqual(
      expect.arrayContaining([
        'file-store:link',
        'file-store:open-temp',
        'file-store:rename',
        'file-store:sync',
        'file-store:unlink-temp',
        'file-store:write',
        'fill:index',
        'fill:store-nar',
        'fill:store-narinfo',
        'index.markPresent',
        'index.markVerified',
        'index.recordPath',
        'spool:append',
        'spool:create',
        'spool:discard',
      ]),
    );
    const known = ['fill:', 'file-store:', 'index.', 'spool:'];
    expect(taken.filter((step) => !known.some((prefix) => step.startsWith(prefix)))).toEqual([]);
  });

  it('before file-store:make-directory, in a new place', async () => {
    const [directory, paths] = [await newDirectory(), await newPaths()];
    const running = await start(directory);
    await crash(running, paths, () => running.arm('file-store:make-directory', 1));
    expect(running.isGone()).toBe(true);
    await (await mended(directory, paths)).kill();
  });

  describe.each(['fill:', 'file-store:', 'index.', 'spool:'])('in the steps %s', (prefix) => {
    let directory: string;
    let running: CrashingProcess;

    beforeAll(async () => {
      directory = await newDirectory();
      running = await mended(directory, await newPaths());
    });
    afterAll(() => running.kill());

    it.each(pointsOf(prefix))('before %s, time %i', async (step, occurrence) => {
      const paths = await newPaths();
      await crash(running, paths, () => running.arm(step, occurrence));
      expect(running.isGone()).toBe(true);
      running = await mended(directory, paths);
    });
  });
});
