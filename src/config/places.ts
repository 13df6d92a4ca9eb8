import type { DatabaseConfig, S3Config, StorageConfig } from './config.ts';
import { parsePath, parseSize, ValueError } from './values.ts';

/** S3 takes no smaller part but the last, in bytes. */
const LEAST_PART = 5 * 2 ** 20;
/** Larger ones only take memory, in bytes. */
const MOST_PART = 512 * 2 ** 20;
const DEFAULT_PART = '8M';
const MOST_CONCURRENCY = 16;
const DEFAULT_CONCURRENCY = 3;

/** Where bodies are, as in `SNOWCAP_STORAGE`. @throws ValueError */
export function parseStorage(text: string): StorageConfig {
  const scheme = schemeOf(text, 'file:PATH, s3://BUCKET/PREFIX or r2:BINDING');
  switch (scheme) {
    case 'file':
      return { kind: 'file', path: parsePlace(text, 'file') };
    case 's3':
      return parseS3(text);
    case 'r2':
      return { kind: 'r2', binding: parseBinding(text, scheme) };
    default:
      throw noDriver(scheme, 'file:PATH, s3://BUCKET/PREFIX or r2:BINDING');
  }
}

/** Where the index is, as in `SNOWCAP_DATABASE`. @throws ValueError, without the password */
export function parseDatabase(text: string): DatabaseConfig {
  const expected = 'sqlite:PATH, postgres://…, mysql://…, d1:BINDING or hyperdrive:BINDING';
  const scheme = schemeOf(text, expected);
  switch (scheme) {
    case 'sqlite':
      return { kind: 'sqlite', path: parsePlace(text, 'sqlite') };
    case 'postgres':
    case 'postgresql':
      return { kind: 'postgres', url: parseServerUrl(text) };
    case 'mysql':
    case 'mariadb':
      return { kind: 'mysql', url: parseServerUrl(text) };
    case 'd1':
    case 'hyperdrive':
      return { kind: scheme, binding: parseBinding(text, scheme) };
    default:
      throw noDriver(scheme, expected);
  }
}

/**
 * A place as `scheme:PATH`, also as `scheme:///PATH`.
 *
 * @returns the path
 * @throws ValueError
 */
export function parsePlace(text: string, scheme: string): string {
  const match = /^([a-z][a-z0-9+.-]*):(.*)$/is.exec(text);
  const rest = match?.[1]?.toLowerCase() === scheme ? (match[2] ?? '') : null;
  if (rest === null) throw new ValueError(`expected ${scheme}:PATH`);
  if (rest.includes('?')) throw new ValueError(`expected ${scheme}:PATH without options ("?")`);
  if (/^\/\/[^/]/.test(rest))
    throw new ValueError(`expected ${scheme}:PATH or ${scheme}:///PATH, without a host`);
  const path = rest.replace(/^\/\/\//, '/');
  if (path === '') throw new ValueError(`expected ${scheme}:PATH; the path is empty`);
  return parsePath(path);
}

function schemeOf(text: string, expected: string): string {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text)?.[1];
  if (scheme === undefined) throw new ValueError(`expected ${expected}`);
  return scheme.toLowerCase();
}

function noDriver(scheme: string, expected: string): ValueError {
  return new ValueError(`expected ${expected}; there is no driver for ${JSON.stringify(`${scheme}:`)}`);
}

/** The name of a binding, as it stands in `wrangler.toml`. */
function parseBinding(text: string, scheme: string): string {
  const name = text.slice(scheme.length + 1);
  if (!/^[A-Za-z_$][0-9A-Za-z_$]*$/.test(name)) {
    throw new ValueError(
      `expected ${scheme}:BINDING, with the name of a binding of the Worker, as ${scheme}:CACHE`,
    );
  }
  return name;
}

/** The URL of a database, with its name as the path. */
function parseServerUrl(text: string): string {
  const url = /^\w+:\/\//.test(text) && URL.canParse(text) ? new URL(text) : null;
  if (url === null) throw new ValueError('expected a URL, as postgres://user:password@host:5432/database');
  if (url.pathname.replace(/^\//, '') === '')
    throw new ValueError('expected the name of a database as the path of the URL');
  return text;
}

const S3_OPTIONS = ['endpoint', 'region', 'pathStyle', 'publicEndpoint', 'partSize', 'concurrency'] as const;
type S3Option = (typeof S3_OPTIONS)[number];

/** `s3://BUCKET/PREFIX?endpoint=…&region=…&pathStyle=…&publicEndpoint=…&partSize=…&concurrency=…` */
function parseS3(text: string): S3Config {
  const match = /^s3:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(text);
  if (match === null) throw new ValueError('expected s3://BUCKET/PREFIX?OPTION=VALUE&…');
  const [, bucket = '', path = '', query = ''] = match;
  if (bucket.includes('@')) {
    throw new ValueError(
      'expected s3://BUCKET without credentials: they come from AWS_ACCESS_KEY_ID, a profile or a role',
    );
  }
  if (!/^[0-9A-Za-z][0-9A-Za-z._-]{2,62}$/.test(bucket)) {
    throw new ValueError('expected the name of a bucket after s3://, of 3 to 63 characters');
  }
  const option = s3Options(query);
  const prefix = path.replace(/\/+$/, '');
  if (prefix !== '' && !/^[0-9A-Za-z_-][0-9A-Za-z._-]*(\/[0-9A-Za-z_-][0-9A-Za-z._-]*)*$/.test(prefix)) {
    throw new ValueError(
      'expected a prefix of letters, digits, ".", "_" and "-", with single slashes between',
    );
  }
  return {
    kind: 's3',
    bucket,
    prefix: prefix === '' ? '' : `${prefix}/`,
    region: option('region'),
    endpoint: endpointOf(option, 'endpoint'),
    publicEndpoint: endpointOf(option, 'publicEndpoint'),
    pathStyle: booleanOf(option, 'pathStyle'),
    partSize: partSizeOf(option('partSize') ?? DEFAULT_PART),
    concurrency: concurrencyOf(option('concurrency') ?? String(DEFAULT_CONCURRENCY)),
  };
}

function s3Options(query: string): (name: S3Option) => string | null {
  const parameters = new URLSearchParams(query);
  const known: readonly string[] = S3_OPTIONS;
  for (const name of parameters.keys()) {
    if (!known.includes(name)) {
      throw new ValueError(`unknown option ${JSON.stringify(name)} (known are ${known.join(', ')})`);
    }
    if (parameters.getAll(name).length > 1)
      throw new ValueError(`option ${JSON.stringify(name)} is given twice`);
  }
  return (name) => {
    const value = parameters.get(name);
    return value === null || value === '' ? null : value;
  };
}

function endpointOf(
  option: (name: S3Option) => string | null,
  name: 'endpoint' | 'publicEndpoint',
): string | null {
  const text = option(name);
  if (text === null) return null;
  const url = URL.canParse(text) ? new URL(text) : null;
  const plain =
    url !== null && url.username === '' && url.password === '' && url.search === '' && url.hash === '';
  if (!plain || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new ValueError(`expected ${name} to be an http or https URL without credentials and query`);
  }
  return url.href.replace(/\/+$/, '');
}

function booleanOf(option: (name: S3Option) => string | null, name: S3Option): boolean {
  const text = option(name);
  if (text === null || text === 'false') return false;
  if (text === 'true') return true;
  throw new ValueError(`expected ${name} to be "true" or "false"`);
}

function partSizeOf(text: string): number {
  const bytes = parseSize(text);
  if (bytes < LEAST_PART || bytes > MOST_PART) {
    throw new ValueError(`expected partSize from 5M to ${MOST_PART / 2 ** 20}M`);
  }
  return bytes;
}

function concurrencyOf(text: string): number {
  const count = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > MOST_CONCURRENCY) {
    throw new ValueError(`expected concurrency to be a whole number from 1 to ${MOST_CONCURRENCY}`);
  }
  return count;
}
