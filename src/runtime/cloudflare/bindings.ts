import type { Config } from '../../config/config.ts';
import type { ConfigProblem } from '../../config/problem.ts';
import type { D1DatabaseLike } from '../../database/sqlite/d1.ts';
import type { BackgroundJob } from '../../platform.ts';
import type { R2BucketLike } from '../../storage/r2-binding.ts';

/** What a Worker is given with each request: settings as texts, and bindings. */
export type WorkerEnv = Readonly<Record<string, unknown>>;

/** What is used of the context of a request (`ExecutionContext` of @cloudflare/workers-types fits). */
export interface WorkerContext {
  /** Lets work go on after the answer, for up to 30 seconds. */
  waitUntil(work: Promise<unknown>): void;
}

/** What is put into the queue. */
export type QueuedJob =
  | BackgroundJob
  /** Do what a process that lives on does when it starts. */
  | { readonly kind: 'start-up' };

/** What is used of the binding of a queue. */
export interface JobQueue {
  send(job: QueuedJob): Promise<unknown>;
}

/** What is used of a Hyperdrive configuration. */
export interface HyperdriveLike {
  readonly connectionString: string;
}

/** The binding of the queue for work that no client waits for, as in wrangler.toml. */
const QUEUE_BINDING = 'JOBS';

/** The kinds of bindings, by what only they have. */
const KINDS = {
  'an R2 bucket': ['createMultipartUpload', 'head'],
  'a D1 database': ['prepare', 'batch'],
  'a Hyperdrive configuration': ['connectionString'],
  'a queue': ['send', 'sendBatch'],
} as const;

type BindingKind = keyof typeof KINDS;

/** The settings in the environment of a Worker: variables and secrets, also those that are numbers or booleans. */
export function settingsIn(env: WorkerEnv): Readonly<Record<string, string>> {
  const settings: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (typeof value === 'string') settings[name] = value;
    else if (typeof value === 'number' || typeof value === 'boolean') settings[name] = String(value);
  }
  return settings;
}

/** What is wrong with the bindings that a configuration names. */
export function bindingProblems(config: Config, env: WorkerEnv): readonly ConfigProblem[] {
  const { storage, database } = config;
  const problems: ConfigProblem[] = [];
  const expect = (source: string, name: string, kind: BindingKind): void => {
    const found = env[name];
    if (isOfKind(found, kind)) return;
    const what = found === undefined || found === null ? 'there is none' : 'it is something else';
    problems.push({ source, given: name, message: `expected the name of a binding to ${kind}; ${what}` });
  };
  if (storage.kind === 'r2') expect('SNOWCAP_STORAGE', storage.binding, 'an R2 bucket');
  if (database.kind === 'd1') expect('SNOWCAP_DATABASE', database.binding, 'a D1 database');
  if (database.kind === 'hyperdrive') {
    expect('SNOWCAP_DATABASE', database.binding, 'a Hyperdrive configuration');
  }
  if (env[QUEUE_BINDING] !== undefined) expect(QUEUE_BINDING, QUEUE_BINDING, 'a queue');
  return problems;
}

/** The queue for later work; null where none is bound. */
export function queueIn(env: WorkerEnv): JobQueue | null {
  const queue = env[QUEUE_BINDING];
  return isQueue(queue) ? queue : null;
}

/**
 * A binding of the kind that is expected.
 *
 * @throws Error where it is not there: `bindingProblems` tells that before
 */
export function bindingOf<Binding>(
  env: WorkerEnv,
  name: string,
  isExpected: (value: unknown) => value is Binding,
): Binding {
  const found = env[name];
  if (isExpected(found)) return found;
  throw new Error(`The binding ${name} is not what it was when this isolate began`);
}

export function isR2Bucket(value: unknown): value is R2BucketLike {
  return isOfKind(value, 'an R2 bucket');
}

export function isD1Database(value: unknown): value is D1DatabaseLike {
  return isOfKind(value, 'a D1 database');
}

export function isHyperdrive(value: unknown): value is HyperdriveLike {
  return isOfKind(value, 'a Hyperdrive configuration');
}

function isQueue(value: unknown): value is JobQueue {
  return isOfKind(value, 'a queue');
}

/** Bindings are recognized by what they have: they have no class that could be named. */
function isOfKind(value: unknown, kind: BindingKind): value is object {
  return typeof value === 'object' && value !== null && KINDS[kind].every((member) => member in value);
}
