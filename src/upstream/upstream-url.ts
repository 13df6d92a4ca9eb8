/** One upstream cache, as configured. */
export interface UpstreamConfig {
  /**
   * Where the cache is: http or https, without the configuration's query parameters and without a
   * final slash in its path. It may carry `user:password`, so it is never to be logged: see `baseUrl`.
   */
  readonly url: URL;
  /** From `?priority=N`; lower is better. Null: the upstream's own nix-cache-info decides. */
  readonly priority: number | null;
  /** From `?unsigned=allow`: paths of this upstream need no signature. */
  readonly allowUnsigned: boolean;
}

const PARAMETERS: ReadonlySet<string> = new Set(['priority', 'unsigned']);

/**
 * Parses an upstream as it stands in `SNOWCAP_UPSTREAMS`: an http or https URL, optionally with
 * `user:password@`, a path prefix, `?priority=N` (a whole number from 0) and `?unsigned=allow`.
 *
 * @example parseUpstreamUrl('https://cache.example.org/team?priority=30')
 * @throws TypeError that says what is wrong; it never repeats a user name, password or unknown value
 */
export function parseUpstreamUrl(text: string): UpstreamConfig {
  const fail = (why: string): TypeError =>
    new TypeError(`Cannot parse upstream URL ${JSON.stringify(withoutSecrets(text))}: ${why}`);

  if (!URL.canParse(text)) throw fail('it is not a URL (expected for example "https://cache.nixos.org")');
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw fail(`the scheme must be http or https, not ${JSON.stringify(url.protocol.slice(0, -1))}`);
  }
  if (url.hash !== '') throw fail('a fragment ("#…") has no meaning here');

  if (decoded(url.username) === null || decoded(url.password) === null) {
    throw fail('its user name or password has a "%" that is not an escape (write "%25")');
  }

  const unknown = [...url.searchParams.keys()].find((name) => !PARAMETERS.has(name));
  if (unknown !== undefined) {
    throw fail(`unknown parameter ${JSON.stringify(unknown)} (known are "priority" and "unsigned")`);
  }
  for (const name of PARAMETERS) {
    if (url.searchParams.getAll(name).length > 1) throw fail(`parameter "${name}" is given twice`);
  }

  const priority = url.searchParams.get('priority');
  if (priority !== null && !/^\d{1,9}$/.test(priority)) {
    throw fail(`priority must be a whole number from 0 to 999999999, not ${JSON.stringify(priority)}`);
  }
  const unsigned = url.searchParams.get('unsigned');
  if (unsigned !== null && unsigned !== 'allow') {
    throw fail(`unsigned must be "allow", not ${JSON.stringify(unsigned)}`);
  }

  url.search = '';
  url.pathname = url.pathname.replace(/\/+$/, '');
  return { url, priority: priority === null ? null : Number(priority), allowUnsigned: unsigned === 'allow' };
}

/**
 * The name of an upstream everywhere (index, logs, metrics): its URL without credentials, query,
 * fragment and final slash, as `https://cache.example.org/team`.
 */
export function baseUrl(url: URL): string {
  return url.origin + url.pathname.replace(/\/+$/, '');
}

/** The user name and password in a URL, unescaped; null where it has none. */
export function ownCredentials(url: URL): { user: string; password: string } | null {
  if (url.username === '' && url.password === '') return null;
  return { user: decoded(url.username) ?? url.username, password: decoded(url.password) ?? url.password };
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** The text for an error message: what stands before an `@` is masked, the query is left out. */
function withoutSecrets(text: string): string {
  return text.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.*@/is, '$1***@').replace(/[?#].*$/s, '');
}
