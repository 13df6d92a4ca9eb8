import { MetadataError } from './metadata-store.ts';

/** The URL of a database server, read; the password stays in `url`. */
export interface DatabaseUrl {
  readonly url: URL;
  /** For logs, as `postgres:db.example:5433/snowcap`. */
  readonly description: string;
}

/**
 * Reads the URL of a database server.
 *
 * @param schemes as `postgres`; the first one is used for the description
 * @throws MetadataError with what is wrong; it never shows the URL, which holds a password
 */
export function parseDatabaseUrl(text: string, schemes: readonly [string, ...string[]]): DatabaseUrl {
  const [scheme] = schemes;
  const expected = `expected ${scheme}://user:password@host:port/database`;
  if (!URL.canParse(text))
    throw new MetadataError(`Cannot open the index: the URL cannot be read, ${expected}`);
  const url = new URL(text);
  if (!schemes.some((each) => url.protocol === `${each}:`)) {
    throw new MetadataError(`Cannot open the index: its URL begins with ${url.protocol}//, ${expected}`);
  }
  const database = url.pathname.slice(1);
  if (database === '')
    throw new MetadataError(`Cannot open the index: the URL names no database, ${expected}`);
  return { url, description: `${scheme}:${url.host}/${database}` };
}
