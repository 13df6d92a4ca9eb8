import type { ConfigProblem } from './problem.ts';
import type { SettingName } from './setting.ts';

export type RuntimeKind = 'node' | 'lambda' | 'workers';

const NAMES: Readonly<Record<RuntimeKind, string>> = {
  node: 'Node',
  lambda: 'AWS Lambda',
  workers: 'Cloudflare Workers',
};

/** What there is on each runtime, by how the value begins. */
const THERE: Readonly<Record<RuntimeKind, Readonly<Partial<Record<SettingName, readonly string[]>>>>> = {
  node: {
    SNOWCAP_STORAGE: ['file:', 's3:'],
    SNOWCAP_DATABASE: ['sqlite:', 'postgres:', 'postgresql:', 'mysql:', 'mariadb:'],
    SNOWCAP_LOCK: ['local', 'database', 'upstash', 'redis:', 'rediss:'],
  },
  lambda: {
    SNOWCAP_STORAGE: ['file:', 's3:'],
    SNOWCAP_DATABASE: ['sqlite:', 'postgres:', 'postgresql:', 'mysql:', 'mariadb:'],
    SNOWCAP_LOCK: ['local', 'database', 'upstash', 'redis:', 'rediss:'],
  },
  workers: {
    SNOWCAP_STORAGE: ['r2:', 's3:'],
    SNOWCAP_DATABASE: ['d1:', 'hyperdrive:', 'postgres:', 'postgresql:'],
    SNOWCAP_LOCK: ['local', 'database', 'upstash'],
  },
};

/** Files, which Workers have not: what stands in their place. */
const FILES: Readonly<Partial<Record<SettingName, string>>> = {
  SNOWCAP_SECRET_KEY_FILE: 'SNOWCAP_SECRET_KEY as a secret',
  SNOWCAP_NETRC_FILE: 'credentials in SNOWCAP_UPSTREAMS as a secret',
  SNOWCAP_CA_FILE: 'an upstream with a public certificate',
  SNOWCAP_SPOOL_DIR: 'nothing: fills are paced by the storage',
};

/** What a runtime cannot do. */
export function unfit(
  texts: ReadonlyMap<SettingName, string | null>,
  runtime: RuntimeKind,
): readonly ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  for (const [name, text] of texts) {
    if (text === null) continue;
    const there = THERE[runtime][name];
    if (there !== undefined && isElsewhere(name, text) && !there.some((start) => text.startsWith(start))) {
      problems.push({
        source: name,
        given: text.replace(/:.*/s, ':…'),
        message: `expected one of ${there.map((start) => `"${start}"`).join(', ')} on ${NAMES[runtime]}`,
      });
    }
    const instead = runtime === 'workers' ? FILES[name] : undefined;
    if (instead !== undefined) {
      problems.push({
        source: name,
        given: null,
        message: `there are no files on ${NAMES[runtime]}: expected ${instead}`,
      });
    }
  }
  if (runtime === 'workers') problems.push(...notFound(texts));
  return problems;
}

/** What the SDK of AWS finds by itself elsewhere. */
function notFound(texts: ReadonlyMap<SettingName, string | null>): readonly ConfigProblem[] {
  const storage = texts.get('SNOWCAP_STORAGE') ?? '';
  if (!storage.startsWith('s3:')) return [];
  const problems: ConfigProblem[] = [];
  if (
    (texts.get('AWS_ACCESS_KEY_ID') ?? null) === null &&
    (texts.get('AWS_SECRET_ACCESS_KEY') ?? null) === null
  ) {
    problems.push({
      source: 'AWS_ACCESS_KEY_ID',
      given: null,
      message: `expected a key for S3, and its AWS_SECRET_ACCESS_KEY: on ${NAMES.workers} there is no role nor profile`,
    });
  }
  if ((texts.get('AWS_REGION') ?? null) === null && !/[?&](?:region|endpoint)=[^&]/.test(storage)) {
    problems.push({
      source: 'SNOWCAP_STORAGE',
      given: null,
      message: 'expected ?region= in the URL of a bucket of AWS, or AWS_REGION',
    });
  }
  return problems;
}

/** Whether some other runtime has it: what none has, the schema reports. */
function isElsewhere(name: SettingName, text: string): boolean {
  return Object.values(THERE).some((settings) => settings[name]?.some((start) => text.startsWith(start)));
}
