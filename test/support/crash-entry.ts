import { flushCompileCache } from 'node:module';
import { createInterface } from 'node:readline';
import { loadConfig } from '../../src/config/load.ts';
import { startNode } from '../../src/runtime/node.ts';
import { silentLogger } from '../../src/telemetry/logger.ts';
import { killAt } from './checkpoint.ts';

/*
 * Snowcap as `snowcap serve` composes it, which ends itself with SIGKILL before a write step. What it understands, a
 * line each: `arm STEP N` (the N-th time from now on), `record` (tells each step from now on as `step STEP`). It says
 * `listening URL` at first, and `ready` to each line.
 */
const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const loaded = await loadConfig({ environment: process.env, hostname: 'crash.test', terminal: false });
if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));

let onStep: (step: string) => void = () => undefined;
const running = await startNode(loaded.config, {
  logger: silentLogger,
  version: 'test',
  checkpoint: (step) => {
    onStep(step);
  },
});
// For the next one: none of them lives to its end.
flushCompileCache();
say(`listening ${running.url}`);

for await (const line of createInterface({ input: process.stdin })) {
  const [command, step = '', occurrence = ''] = line.split(' ');
  onStep =
    command === 'arm'
      ? killAt(step, Number(occurrence))
      : (taken) => {
          say(`step ${taken}`);
        };
  say('ready');
}
await running.close();
