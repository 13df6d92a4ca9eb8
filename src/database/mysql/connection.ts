import type { ConnectionOptions } from 'mysql2';
import { parseDatabaseUrl } from '../database-url.ts';
import { MetadataError } from '../metadata-store.ts';

const DEFAULT_PORT = 3306;
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;

/**
 * What the driver needs of `mysql://user:password@host:port/database?tls=…`; `tls` is `true` for a connection whose
 * certificate is checked, `unchecked` for one whose is not, as on a network of one's own.
 *
 * @throws MetadataError for a URL that leads nowhere; it never shows the password
 */
export function mysqlConnectionOf(
  url: string,
  connectTimeoutMs: number = DEFAULT_CONNECT_TIMEOUT_MS,
): { readonly description: string; readonly options: ConnectionOptions } {
  const { url: parsed, description } = parseDatabaseUrl(url, ['mysql', 'mariadb']);
  const tls = parsed.searchParams.get('tls');
  if (tls !== null && tls !== 'true' && tls !== 'unchecked' && tls !== 'false') {
    throw new MetadataError('Cannot open the index: expected ?tls=true, unchecked or false in its URL');
  }
  return {
    description,
    options: {
      host: parsed.hostname.replace(/^\[|\]$/g, ''),
      port: parsed.port === '' ? DEFAULT_PORT : Number(parsed.port),
      user: decodeURIComponent(parsed.username),
      password: decodeURIComponent(parsed.password),
      database: decodeURIComponent(parsed.pathname.slice(1)),
      connectTimeout: connectTimeoutMs,
      ...(tls === 'true' || tls === 'unchecked' ? { ssl: { rejectUnauthorized: tls === 'true' } } : {}),
      charset: 'UTF8MB4_BIN',
      // Integers beyond 2^53 come as text then, which no column reader takes, instead of rounded.
      supportBigNumbers: true,
      // Never reads a file of ours because a server asks for it.
      flags: ['-LOCAL_FILES'],
    },
  };
}
