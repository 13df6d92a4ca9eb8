/**
 * What is wrong with the `URL` of a narinfo, as one clause; null if nothing is.
 *
 * The URL must be relative to its cache and stay below it, whichever way it is resolved: it has no
 * scheme, no leading slash (`//host/…` would be another host), no backslash (a slash to WHATWG URL parsers), no `.` or `..`
 * segment, percent-encoded or not, no fragment, and only visible ASCII characters. A query is kept: some
 * caches need it.
 */
export function faultOfNarUrl(url: string): string | null {
  if (url === '') return 'expected the place of the NAR, relative to the cache';
  for (let at = 0; at < url.length; at++) {
    const code = url.charCodeAt(at);
    if (code <= 0x20 || code >= 0x7f) return 'a character is not visible ASCII';
    if (code === 0x5c) return 'it has a backslash';
    if (code === 0x23) return 'it has a fragment';
  }
  if (url.startsWith('/')) return 'it begins with a slash';
  if (/^[a-z][a-z0-9+.-]*:/i.test(url)) return 'it has a scheme: only places within the cache are served';

  const query = url.indexOf('?');
  const path = query < 0 ? url : url.slice(0, query);
  if (path === '') return 'it has no path';
  for (const segment of decodePath(path).split('/')) {
    if (segment === '.' || segment === '..') return `it has the segment ${JSON.stringify(segment)}`;
  }
  return null;
}

/** Undoes the percent-encoding of what shapes a path: dots, slashes and backslashes. */
function decodePath(path: string): string {
  if (!path.includes('%')) return path;
  return path.replace(/%2e/gi, '.').replace(/%2f|%5c/gi, '/');
}
