import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startBundledWorker } from '../support/bundled-worker.ts';
import type { Backend } from './backend.ts';
import type { MeasuredServer } from './server-process.ts';
import { settingsOf } from './snowcap.ts';

/** The bundled Worker in a workerd of this machine, over the R2, D1 and queue that are simulated in the same process. */
export function openWorkerdBackend(): Backend {
  return {
    name: 'workerd',
    async openPlace() {
      const state = await mkdtemp(join(tmpdir(), 'snowcap-bench-worker-'));
      return {
        async start(options): Promise<MeasuredServer> {
          const others = new Set(await runtimes());
          const { url, stop } = await startBundledWorker({ settings: settingsOf(options), state });
          const pid = (await runtimes()).find((each) => !others.has(each));
          if (pid === undefined) throw new Error('Cannot find the process of workerd');
          return { url, port: Number(new URL(url).port), pid, stop };
        },
        direct: null,
        remove: () => rm(state, { recursive: true, force: true }),
      };
    },
    stop: () => Promise.resolve(),
  };
}

/** The processes of workerd that this one has started. */
async function runtimes(): Promise<readonly number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    // Of a process that has ended meanwhile there is no file.
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const [, program, parent] = /^\d+ \((.*)\) \S (\d+)/.exec(stat) ?? [];
    if (program === 'workerd' && Number(parent) === process.pid) found.push(Number(name));
  }
  return found;
}
