import { maskSecret, redactUrl } from '../telemetry/redact.ts';
import { closest } from './closest.ts';
import type { Config } from './config.ts';
import { conflicts } from './conflicts.ts';
import type { ConfigProblem } from './problem.ts';
import { type RuntimeKind, unfit } from './runtime-fit.ts';
import { configSchema } from './schema.ts';
import type { Setting, SettingName } from './setting.ts';
import { SETTINGS } from './settings.ts';

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
  /** What it is for: not every driver is there on every runtime. */
  readonly runtime?: RuntimeKind;
  /** Defaults of the runtime, where they differ. */
  readonly defaults?: Readonly<Partial<Record<SettingName, string>>>;
  /** For what needs no signing key, as a migration: a missing one is no problem then. */
  readonly keyless?: boolean;
}

/** A configuration, or everything that is wrong with it. */
export type LoadedConfig =
  | { readonly ok: true; readonly config: Config; readonly effective: readonly EffectiveSetting[] }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[] };

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
  const problems = [
    ...unknownNames(sources.environment),
    ...conflicts(texts, sources.keyless === true),
    ...unfit(texts, sources.runtime ?? 'node'),
  ];
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
  return sources.defaults?.[setting.name] ?? setting.default;
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
  const mask = setting.secret === 'key' ? maskSecret : maskUrl;
  return text
    .split(/\s+/)
    .map((part) => mask(part))
    .join(' ');
}

/** Also where a URL lacks its `//`, and so is none: as the one of a proxy may, and any by mistake. */
function maskUrl(text: string): string {
  const redacted = redactUrl(text);
  return redacted.includes('://') ? redacted : redacted.replace(/^[^/?#]*@/, '…@');
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
