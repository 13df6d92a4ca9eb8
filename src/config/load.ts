import { maskSecret, redactUrl } from '../telemetry/redact.ts';
import { closest } from './closest.ts';
import { configSchema } from './schema.ts';
import type { Config } from './schema.ts';
import { SETTINGS } from './settings.ts';
import type { Setting, SettingName } from './settings.ts';
import { parsePlace } from './values.ts';

/** Where settings come from. */
export interface ConfigSources {
  /** The whole environment; what is none of our business in it is left alone. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** What was given as flags, by the name of the setting. A flag wins over the environment. */
  readonly flags?: Readonly<Partial<Record<SettingName, string | undefined>>>;
  /** The machine's host name: the default of `SNOWCAP_HOSTNAME`. */
  readonly hostname: string;
  /** Whether the log goes to a terminal: then it is `pretty` by default. */
  readonly terminal: boolean;
}

/** A configuration, or everything that is wrong with it. */
export type LoadedConfig =
  | { readonly ok: true; readonly config: Config; readonly effective: readonly EffectiveSetting[] }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[] };

/** One thing that is wrong. Holds no secret. */
export interface ConfigProblem {
  /** The variable or flag that it was read from. */
  readonly source: string;
  /** What was given, secrets masked; null where the name itself is the problem. */
  readonly given: string | null;
  /** What was expected, or what is wrong, in a clause. */
  readonly message: string;
}

/** A setting as it takes effect. Holds no secret. */
export interface EffectiveSetting {
  readonly name: SettingName;
  /** Secrets masked; null where nothing is set. */
  readonly value: string | null;
  readonly origin: 'default' | 'environment' | 'flag';
  /** The variable or flag; null for a default. */
  readonly source: string | null;
}

/**
 * The configuration out of environment and flags. A variable that is set to an empty text counts as not set,
 * but for lists, where it means an empty list, as in nix.conf.
 *
 * @returns either a whole configuration or every problem at once, one entry each
 */
export async function loadConfig(sources: ConfigSources): Promise<LoadedConfig> {
  const found = SETTINGS.map((setting) => ({ setting, ...find(setting, sources) }));
  const texts = new Map(found.map(({ setting, text }) => [setting.name, text]));
  const parsed = await configSchema.safeParseAsync(Object.fromEntries(texts));
  const problems = [...unknownNames(sources.environment), ...conflicts(texts)];
  for (const issue of parsed.error?.issues ?? []) {
    const entry = found.find(({ setting }) => setting.name === issue.path[0]);
    if (entry === undefined) throw new Error(`Unexpected problem of the configuration: ${issue.message}`);
    const given: unknown = issue.code === 'custom' ? issue.params?.['given'] : null;
    problems.push({
      source: entry.source ?? entry.setting.name,
      given: shown(entry.setting, typeof given === 'string' ? given : entry.text),
      message: issue.message,
    });
  }
  if (parsed.data === undefined || problems.length > 0) return { ok: false, problems };
  const { data: config } = parsed;
  const effective = found.map(({ setting, text, origin, source }) => ({
    name: setting.name,
    value: shown(setting, text ?? derived(setting.name, config)),
    origin,
    source,
  }));
  return { ok: true, config, effective };
}

/** A problem in one line, as `SNOWCAP_PRIORITY: expected a whole number …, given "high"`. */
export function formatProblem({ source, given, message }: ConfigProblem): string {
  return `${source}: ${message}${given === null ? '' : `, given ${JSON.stringify(given)}`}`;
}

interface Found {
  readonly text: string | null;
  readonly origin: EffectiveSetting['origin'];
  readonly source: string | null;
}

function find(setting: Setting, sources: ConfigSources): Found {
  const isSet = (text: string | undefined): text is string =>
    text !== undefined && (setting.list === true || text.trim() !== '');
  const flag = sources.flags?.[setting.name];
  if (isSet(flag)) return { text: flag.trim(), origin: 'flag', source: setting.flag };
  for (const name of [setting.name, ...(setting.fallbacks ?? [])]) {
    const text = sources.environment[name];
    if (isSet(text)) return { text: text.trim(), origin: 'environment', source: name };
  }
  return { text: defaultOf(setting, sources), origin: 'default', source: null };
}

function defaultOf(setting: Setting, sources: ConfigSources): string | null {
  if (setting.name === 'SNOWCAP_HOSTNAME') return sources.hostname;
  if (setting.name === 'SNOWCAP_LOG_FORMAT') return sources.terminal ? 'pretty' : 'json';
  return setting.default;
}

/** What takes effect where a default follows from other settings. */
function derived(name: SettingName, config: Config): string | null {
  if (name === 'SNOWCAP_SPOOL_DIR') return config.spoolDir;
  if (name === 'SNOWCAP_SECRET_KEY_FILE' && config.secretKeys.kind === 'generated')
    return config.secretKeys.path;
  return null;
}

function shown(setting: Setting, text: string | null): string | null {
  if (text === null || setting.secret === undefined) return text;
  const mask = setting.secret === 'key' ? maskSecret : redactUrl;
  return text
    .split(/\s+/)
    .map((part) => mask(part))
    .join(' ');
}

/**
 * What Kubernetes and Docker links put into the environment of each container beside a service called `snowcap`
 * or `snowcap-…`: these are no settings.
 */
function isServiceLink(name: string, value: string): boolean {
  if (/^SNOWCAP_(\w+_)?SERVICE_(HOST|PORT(_\w+)?)$/.test(name)) return true;
  if (/^SNOWCAP_(\w+_)?PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name)) return true;
  return /^SNOWCAP_(\w+_)?PORT$/.test(name) && /^(tcp|udp|sctp):\/\//.test(value);
}

function unknownNames(environment: ConfigSources['environment']): ConfigProblem[] {
  const names: readonly string[] = SETTINGS.map((setting) => setting.name);
  return Object.entries(environment).flatMap(([name, value]) => {
    if (!/^snowcap_/i.test(name) || value === undefined || names.includes(name)) return [];
    if (isServiceLink(name, value)) return [];
    const meant = closest(name.toUpperCase(), names);
    const hint = meant === null ? 'see "snowcap serve --help" for those there are' : `did you mean ${meant}?`;
    return [{ source: name, given: null, message: `there is no such setting: ${hint}` }];
  });
}

/** What does not go together, as far as the values can be read. */
function conflicts(texts: ReadonlyMap<SettingName, string | null>): ConfigProblem[] {
  const textOf = (name: SettingName): string | null => texts.get(name) ?? null;
  const problems: ConfigProblem[] = [];
  if (textOf('SNOWCAP_SECRET_KEY') !== null && textOf('SNOWCAP_SECRET_KEY_FILE') !== null) {
    problems.push({
      source: 'SNOWCAP_SECRET_KEY_FILE',
      given: textOf('SNOWCAP_SECRET_KEY_FILE'),
      message: 'expected either SNOWCAP_SECRET_KEY or SNOWCAP_SECRET_KEY_FILE, not both',
    });
  }
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
