import { mkdir, writeFile } from 'node:fs/promises';
import { cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { missingTool } from '../support/require.ts';
import { BACKENDS, openBackend } from './backend.ts';
import type { BackendName } from './backend.ts';
import { COMPRESSIONS } from './closure.ts';
import { measureColdClosure } from './cold.ts';
import { measureFollowers, measureLargeNar, measureManyLargeNars } from './large.ts';
import { RESULTS_DIRECTORY, say } from './places.ts';
import { formatTable } from './rows.ts';
import type { Row } from './rows.ts';
import { measureNarInfos, measureNars } from './serving.ts';
import type { BenchOptions } from './setting.ts';
import { measureWorkersMemory } from './workers.ts';

interface Section {
  readonly what: string;
  readonly tools: readonly string[];
  /** Where it can be measured. */
  readonly backends: readonly BackendName[];
  measure(options: BenchOptions): Promise<readonly Row[]>;
}

const ALL = BACKENDS;
const NODE = ['files', 's3'] as const;
const WORKERD = ['workerd'] as const;

const SECTIONS: Readonly<Record<string, Section>> = {
  narinfo: {
    what: 'narinfos from a warm cache',
    tools: ['nix', 'nginx'],
    backends: ALL,
    measure: measureNarInfos,
  },
  nars: { what: 'NARs from a warm cache', tools: ['nix', 'nginx'], backends: ALL, measure: measureNars },
  cold: {
    what: 'a cold closure by a real Nix client',
    tools: ['nix', 'nginx'],
    backends: ALL,
    measure: measureColdClosure,
  },
  followers: { what: '64 clients on one cold NAR', tools: [], backends: NODE, measure: measureFollowers },
  parallel: { what: '8 clients on 8 cold NARs', tools: [], backends: NODE, measure: measureManyLargeNars },
  memory: {
    what: '16 clients on one cold NAR of 2 GiB',
    tools: [],
    backends: NODE,
    measure: measureLargeNar,
  },
  workers: {
    what: 'large cold NARs through a Worker, in workerd',
    tools: [],
    backends: WORKERD,
    measure: measureWorkersMemory,
  },
};

const USAGE = `npm run bench -- [section…] [options]

Sections (all that the backend has, if none is named):
${Object.entries(SECTIONS)
  .map(([name, { what }]) => `  ${name.padEnd(10)} ${what}`)
  .join('\n')}

Options:
  --backend ${BACKENDS.join('|')}  what Snowcap runs over (default files; see README.md)
  --compression ${COMPRESSIONS.join('|')}  of the NARs of the closure (default zstd)
  --quick       one run instead of three or five
  --control     nginx instead of Snowcap: how far from 1 the ratios are is the noise of the machine
  --profile     CPU profiles of Snowcap into test/bench/results (see README.md)
  --check       exit code 1 where a target is missed
`;

type Options = Omit<BenchOptions, 'backend'> & { readonly backend: BackendName; readonly check: boolean };

function parseOptions(args: readonly string[]): Options | null {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      backend: { type: 'string', default: 'files' },
      compression: { type: 'string', default: 'zstd' },
      quick: { type: 'boolean', default: false },
      control: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const compression = COMPRESSIONS.find((name) => name === values.compression);
  const backend = BACKENDS.find((name) => name === values.backend);
  if (values.help || backend === undefined || compression === undefined) return null;
  const all = Object.keys(SECTIONS).filter((name) => SECTIONS[name]?.backends.includes(backend) === true);
  if (!positionals.every((name) => all.includes(name))) return null;
  const sections = positionals.length > 0 ? positionals : all;
  return { ...values, sections, backend, compression };
}

async function main(): Promise<void> {
  // Debian puts nginx where only root's PATH looks.
  process.env['PATH'] = `${process.env['PATH'] ?? ''}:/usr/sbin`;
  const options = parseOptions(process.argv.slice(2));
  if (options === null) {
    process.stderr.write(USAGE);
    process.exitCode = 2;
    return;
  }
  const load = loadavg()[0] ?? 0;
  if (load > 0.5)
    say(
      `The machine is busy (load ${load.toFixed(1)}): the figures will say more about that than about servers`,
    );
  const backend = await openBackend(options.backend);
  const rows: Row[] = [];
  try {
    rows.push(...(await measureSections({ ...options, backend })));
  } finally {
    await backend.stop();
  }
  await writeResults(options, rows, load);
  process.stdout.write(`\n${formatTable(rows)}\n`);
  if (options.check && rows.some(({ ok }) => ok === false)) process.exitCode = 1;
}

async function measureSections(options: BenchOptions): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const name of options.sections) {
    const section = SECTIONS[name];
    if (section === undefined) continue;
    const missing = missingTool([...section.tools]);
    if (missing !== null) throw new Error(`Cannot measure ${name}: ${missing} is not installed`);
    say(`\n${name}: ${section.what}`);
    rows.push(...(await section.measure(options)));
  }
  return rows;
}

async function writeResults(options: Options, rows: readonly Row[], load: number): Promise<void> {
  await mkdir(RESULTS_DIRECTORY, { recursive: true });
  const at = new Date().toISOString();
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    loadBefore: load,
  };
  const file = join(RESULTS_DIRECTORY, `${at.replaceAll(':', '-')}.json`);
  await writeFile(
    file,
    `${JSON.stringify({ at, node: process.version, machine, options, rows }, null, 2)}\n`,
  );
  say(`\nfigures: ${file}`);
}

await main();
