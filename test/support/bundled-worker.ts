import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { convertV4MiniflareOptions, Miniflare } from 'miniflare';
import { unstable_getMiniflareWorkerOptions, unstable_readConfig } from 'wrangler';
import {
  createSigner,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseSecretKey,
} from '../../src/nix/signing-key.ts';
import { bundleOnce } from './bundle-directory.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface BundledWorkerOptions {
  /** Settings; they win over those of wrangler.toml. */
  readonly settings: Readonly<Record<string, string>>;
  /** Where the local R2, D1 and queue are kept. Default: in memory. */
  readonly state?: string;
  /** False: the database gets no schema. Default true. */
  readonly migrated?: boolean;
  /** False: no queue is bound. Default true. */
  readonly queue?: boolean;
  /** URL of the Postgres behind the Hyperdrive that is bound as `DB`. Default: none is bound. */
  readonly hyperdrive?: string;
  /** True: its isolate can be looked into, through `workerd.getInspectorURL()`. Default false. */
  readonly inspected?: boolean;
  /** What it signs with; null: nothing. Default: a new key. */
  readonly secretKey?: string | null;
}

/** The Worker as it would be uploaded, in a workerd of its own, over a local R2, D1 and queue. */
export interface BundledWorker {
  /** As `http://127.0.0.1:1234`, without a final slash. */
  readonly url: string;
  /** What it signs with, in Nix's format; empty where it has nothing. */
  readonly publicKey: string;
  /** The lines of its log so far: JSON of ours, or a text of the runtime's. */
  readonly logs: readonly string[];
  readonly workerd: Miniflare;
  stop(): Promise<void>;
}

let bundle: Promise<string> | undefined;

/** The folder of the Worker as wrangler bundles it for an upload; made once for a run of the tests. */
function bundled(): Promise<string> {
  bundle ??= bundleOnce('worker', makeBundle);
  return bundle;
}

async function makeBundle(directory: string): Promise<void> {
  const wrangler = join(ROOT, 'node_modules/wrangler/bin/wrangler.js');
  const words = [wrangler, 'deploy', '--env', '', '--dry-run', '--outdir', directory];
  // Nothing is sent to anybody.
  const env = { ...process.env, WRANGLER_SEND_METRICS: 'false' };
  await promisify(execFile)(process.execPath, words, { cwd: ROOT, env });
}

/** Starts it with the bindings of wrangler.toml. */
export async function startBundledWorker(options: BundledWorkerOptions): Promise<BundledWorker> {
  const { settings, state, migrated = true, queue = true, inspected = false } = options;
  const secretKey =
    options.secretKey === undefined
      ? formatSecretKey(await generateSecretKey('worker.test-1'))
      : options.secretKey;
  const { workerOptions } = unstable_getMiniflareWorkerOptions(join(ROOT, 'wrangler.toml'));
  // Without those of .dev.vars, which are somebody's own.
  const config: unknown = unstable_readConfig({ config: join(ROOT, 'wrangler.toml') });
  const vars = textsIn(config);
  const directory = await bundled();
  const logs: string[] = [];
  const workerd = new Miniflare({
    ...convertV4MiniflareOptions({
      ...workerOptions,
      ...(queue ? {} : { queueProducers: {}, queueConsumers: {} }),
      ...(options.hyperdrive === undefined ? {} : { hyperdrives: { DB: options.hyperdrive } }),
      bindings: {
        ...vars,
        ...(secretKey === null ? {} : { SNOWCAP_SECRET_KEY: secretKey }),
        ...settings,
      },
      modules: await modulesOf(directory),
      modulesRoot: directory,
      host: '127.0.0.1',
      cf: false,
      ...(inspected ? { inspectorPort: 0 } : {}),
      handleStructuredLogs: ({ message }) => void logs.push(message),
    }),
    ...(state === undefined ? {} : { resourcePersistencePath: state }),
  });
  try {
    const { origin } = await workerd.ready;
    if (migrated) await migrate(workerd);
    const publicKey = secretKey === null ? '' : await publicKeyOf(secretKey);
    return { url: origin, publicKey, logs, workerd, stop: () => workerd.dispose() };
  } catch (error) {
    await workerd.dispose();
    throw error;
  }
}

/** The variables of a configuration that are texts, as all of ours are. */
function textsIn(config: unknown): Readonly<Record<string, string>> {
  const vars = typeof config === 'object' && config !== null && 'vars' in config ? config.vars : null;
  const entries: readonly (readonly [string, unknown])[] = Object.entries(vars ?? {});
  return Object.fromEntries(
    entries.flatMap(([name, value]) => (typeof value === 'string' ? [[name, value]] : [])),
  );
}

async function modulesOf(directory: string) {
  const files = await readdir(directory);
  const code = files.filter((file) => file.endsWith('.js'));
  const wasm = files.filter((file) => file.endsWith('.wasm'));
  return [
    ...code.map((file) => ({ type: 'ESModule' as const, path: join(directory, file) })),
    ...wasm.map((file) => ({ type: 'CompiledWasm' as const, path: join(directory, file) })),
  ];
}

/** As `wrangler d1 migrations apply` does it. */
async function migrate(workerd: Miniflare): Promise<void> {
  const database = await workerd.getD1Database('INDEX');
  const keep =
    'create table if not exists d1_migrations (id integer primary key autoincrement, name text unique, ' +
    'applied_at timestamp default current_timestamp not null)';
  await database.prepare(keep).run();
  const folder = join(ROOT, 'drizzle/sqlite');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort();
  const { results } = await database.prepare('select name from d1_migrations').all();
  const applied = new Set(results.map(({ name }) => name));
  for (const name of names.filter((each) => !applied.has(each))) {
    const statements = (await readFile(join(folder, name), 'utf8')).split('--> statement-breakpoint');
    const note = database.prepare('insert into d1_migrations (name) values (?)').bind(name);
    await database.batch([...statements.map((sql) => database.prepare(sql)), note]);
  }
}

async function publicKeyOf(secretKey: string): Promise<string> {
  const { publicKey } = await createSigner(await parseSecretKey(secretKey));
  return formatPublicKey(publicKey);
}
