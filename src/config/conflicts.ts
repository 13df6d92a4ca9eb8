import { upstashProblem } from './locks.ts';
import { parseDatabase, parsePlace, parseStorage } from './places.ts';
import type { ConfigProblem } from './problem.ts';
import type { SettingName } from './setting.ts';

/** What does not go together, as far as the values can be read. */
export function conflicts(
  texts: ReadonlyMap<SettingName, string | null>,
  keyless: boolean,
): readonly ConfigProblem[] {
  const textOf = (name: SettingName): string | null => texts.get(name) ?? null;
  const problems: ConfigProblem[] = [];
  if (textOf('SNOWCAP_SECRET_KEY') !== null && textOf('SNOWCAP_SECRET_KEY_FILE') !== null) {
    problems.push({
      source: 'SNOWCAP_SECRET_KEY_FILE',
      given: textOf('SNOWCAP_SECRET_KEY_FILE'),
      message: 'expected either SNOWCAP_SECRET_KEY or SNOWCAP_SECRET_KEY_FILE, not both',
    });
  }
  problems.push(...(keyless ? [] : missingKey(textOf)), ...incompletePairs(textOf));
  const storage = quietly(() => parsePlace(textOf('SNOWCAP_STORAGE') ?? '', 'file'));
  if (storage === null) return problems;
  const database = quietly(() => parsePlace(textOf('SNOWCAP_DATABASE') ?? '', 'sqlite'));
  const places: readonly (readonly [SettingName, string | null])[] = [
    ['SNOWCAP_DATABASE', database],
    ['SNOWCAP_SECRET_KEY_FILE', textOf('SNOWCAP_SECRET_KEY_FILE')],
    ['SNOWCAP_SPOOL_DIR', textOf('SNOWCAP_SPOOL_DIR')],
  ];
  for (const [name, path] of places) {
    const inside = path === null ? null : pathWithin(storage, path);
    // No storage key begins with a dot, so a spool under such a name is in nobody's way.
    if (inside === null || (name === 'SNOWCAP_SPOOL_DIR' && inside.startsWith('.'))) continue;
    problems.push({
      source: name,
      given: textOf(name),
      message: `expected a place outside of SNOWCAP_STORAGE (${storage}), which is a binary cache for anybody to read`,
    });
  }
  return problems;
}

type TextOf = (name: SettingName) => string | null;

/** Only files with SQLite, the embedded default, generate a key: anywhere else several instances would make several. */
function missingKey(textOf: TextOf): readonly ConfigProblem[] {
  const storage = quietly(() => parseStorage(textOf('SNOWCAP_STORAGE') ?? ''));
  const database = quietly(() => parseDatabase(textOf('SNOWCAP_DATABASE') ?? ''));
  const generated = storage?.kind === 'file' && database?.kind === 'sqlite';
  const given = textOf('SNOWCAP_SECRET_KEY') ?? textOf('SNOWCAP_SECRET_KEY_FILE');
  if (storage === null || database === null || generated || given !== null) return [];
  return [
    {
      source: 'SNOWCAP_SECRET_KEY',
      given: null,
      message:
        'expected a signing key, or a file with one in SNOWCAP_SECRET_KEY_FILE ("snowcap key generate NAME" makes one)',
    },
  ];
}

function incompletePairs(textOf: TextOf): readonly ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const [id, secret] = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'] as const;
  if ((textOf(id) === null) !== (textOf(secret) === null)) {
    const [missing, there] = textOf(id) === null ? [id, secret] : [secret, id];
    problems.push({ source: missing, given: null, message: `expected a value, since ${there} is set` });
  }
  if (textOf('SNOWCAP_LOCK') === 'upstash') {
    const count = (name: SettingName): number => (textOf(name) ?? '').split(/\s+/).filter(Boolean).length;
    const message = upstashProblem(count('UPSTASH_REDIS_REST_URL'), count('UPSTASH_REDIS_REST_TOKEN'));
    if (message !== null) problems.push({ source: 'SNOWCAP_LOCK', given: 'upstash', message });
  }
  return problems;
}

/** The rest of `path` below `directory`, going by the texts alone; null where it lies elsewhere. */
function pathWithin(directory: string, path: string): string | null {
  const outer = segments(directory);
  const inner = segments(path);
  if (directory.startsWith('/') !== path.startsWith('/')) return null;
  if (!outer.every((segment, index) => segment === inner[index]) || inner[outer.length] === '..') return null;
  return inner.slice(outer.length).join('/');
}

function segments(path: string): readonly string[] {
  const out: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '' || segment === '.') continue;
    if (segment === '..' && out.length > 0 && out.at(-1) !== '..') out.pop();
    else out.push(segment);
  }
  return out;
}

function quietly<Value>(parse: () => Value): Value | null {
  try {
    return parse();
  } catch {
    return null;
  }
}
