/** What stands in the place of a secret. */
const MASK = '…';

/** Query parameters whose values are credentials: presigned URLs, tokens, and their like (law 10). */
const SECRET_PARAMETER =
  /^(x-amz-.*|x-goog-.*|awsaccesskeyid|googleaccessid|sig|signature|policy|key-pair-id|se|sp|sv|.*(token|secret|passw(or)?d|credential|api-?_?key|auth|session).*|jwt|code|key|pass|pwd)$/i;

/** A URL in a text: up to white space, quotes or brackets, without the punctuation that ends a sentence. */
const URL_IN_TEXT = /\b[a-z][a-z0-9+.-]{0,20}:\/\/[^\s"'<>`]+/gi;

/**
 * A URL that may be logged: `user:password@` is dropped, and the values of query parameters that carry
 * credentials (`token`, `sig`, `X-Amz-…`, …) become `…`, those that are URLs are treated alike. What is not a URL, as a path with a query, is
 * treated alike; the rest of it stays as it was. Never throws.
 */
export function redactUrl(url: string | URL): string {
  const text = typeof url === 'string' ? url : url.href;
  const fragmentAt = text.indexOf('#');
  const beforeFragment = fragmentAt === -1 ? text : text.slice(0, fragmentAt);
  const fragment = fragmentAt === -1 ? '' : text.slice(fragmentAt);
  const queryAt = beforeFragment.indexOf('?');
  const place = queryAt === -1 ? beforeFragment : beforeFragment.slice(0, queryAt);
  const query = queryAt === -1 ? '' : redactQuery(beforeFragment.slice(queryAt + 1));
  return withoutUser(place) + query + (fragment === '' ? '' : `#${redactFragment(fragment.slice(1))}`);
}

/** Drops `user:password@`. A stray `@` in the path stays, unless nothing tells where the host ends. */
function withoutUser(place: string): string {
  const scheme = /^[a-z][a-z0-9+.-]*:[/\\]{2}/i.exec(place)?.[0] ?? (place.startsWith('//') ? '//' : null);
  if (scheme === null) return place;
  const rest = place.slice(scheme.length);
  // A password with a raw "/" in it is not valid, but it is written down all the same: as long as what
  // stands before the slash has a colon that no port explains, everything up to the last @ goes.
  const slashAt = rest.search(/[/\\]/);
  const authority = slashAt === -1 ? rest : rest.slice(0, slashAt);
  const isHost = authority.includes('@') || /^(\[[0-9a-f:.%]*\]|[^:]*)(:\d*)?$/i.test(authority);
  const end = isHost ? authority.lastIndexOf('@') : rest.lastIndexOf('@');
  return scheme + rest.slice(end + 1);
}

function redactQuery(query: string): string {
  return `?${query
    .split('&')
    .map((pair) => {
      const equals = pair.indexOf('=');
      if (equals === -1) return pair;
      const name = pair.slice(0, equals);
      if (SECRET_PARAMETER.test(decoded(name))) return `${name}=${MASK}`;
      // A value may be a URL itself, as the endpoint of a bucket is.
      const value = decoded(pair.slice(equals + 1));
      const redacted = value.includes('://') ? redactUrl(value) : value;
      return redacted === value ? pair : `${name}=${redacted}`;
    })
    .join('&')}`;
}

function redactFragment(fragment: string): string {
  return fragment.includes('=') ? redactQuery(fragment).slice(1) : fragment;
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** A text that may be logged: every URL in it goes through `redactUrl`. Quick where there is none. */
export function redactText(text: string): string {
  return text.includes('://') ? text.replace(URL_IN_TEXT, redactUrl) : text;
}

/**
 * What may be shown of a secret: the name of a key in Nix's format `name:base64`, and nothing of
 * anything else, not even its length.
 *
 * @example maskSecret('cache-1:c2VjcmV0') === 'cache-1:…'
 */
export function maskSecret(secret: string): string {
  const name = /^([0-9A-Za-z][0-9A-Za-z._-]*):[0-9A-Za-z+/]{40,}={0,2}$/.exec(secret.trim())?.[1];
  return name === undefined ? MASK : `${name}:${MASK}`;
}
