import postgres from 'postgres';

export interface PostgresClientOptions {
  /** `postgres://user:password@host:port/database`, with `?sslmode=` for TLS. */
  readonly url: string;
  /**
   * Most connections at a time.
   *
   * @default 10
   */
  readonly poolSize?: number | undefined;
  /**
   * How long to wait for a connection, in milliseconds.
   *
   * @default 10000
   */
  readonly connectTimeoutMs?: number | undefined;
  /**
   * How long a statement may take, in milliseconds. The server ends it then; where it says nothing at all, the
   * connections are given up a little later.
   *
   * @default 10000
   */
  readonly statementTimeoutMs?: number | undefined;
  /**
   * Whether statements are prepared under names, once for each connection: quicker, but not behind a pooler that
   * hands connections round between transactions and knows nothing of them (PgBouncer before 1.21).
   *
   * @default what `?prepare=true` in the URL says, else false
   */
  readonly prepare?: boolean | undefined;
  /**
   * How the connections are called in the server's lists.
   *
   * @default 'snowcap'
   */
  readonly applicationName?: string | undefined;
  /**
   * Whether the server is told `statementTimeoutMs` when a connection begins. A pooler that refuses that parameter
   * is met without it in any case.
   *
   * @default true
   */
  readonly startupParameters?: boolean | undefined;
}

export type PostgresClient = postgres.Sql<{ bigint: number | string }>;

export const DEFAULT_STATEMENT_TIMEOUT_MS: number = 10_000;
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;
const DEFAULT_POOL_SIZE = 10;

/** Opens no connection yet. */
export function connectPostgres(options: PostgresClientOptions): PostgresClient {
  const timeout = options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS;
  const seconds = (options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS) / 1000;
  return postgres(options.url, {
    max: options.poolSize ?? DEFAULT_POOL_SIZE,
    connect_timeout: seconds,
    // Its own pause before it connects again grows to 20 seconds, over all that is asked meanwhile and after the server
    // has come back. Who asks paces the attempts here.
    backoff: () => 0,
    prepare: options.prepare ?? false,
    // A query of its own on each connection, for array types that the index has none of.
    fetch_types: false,
    // Otherwise they are printed.
    onnotice: () => undefined,
    types: { bigint: { to: 20, from: [20], serialize: String, parse: integerOf } },
    connection: {
      application_name: options.applicationName ?? 'snowcap',
      ...(options.startupParameters === false ? {} : { statement_timeout: timeout }),
    },
  });
}

/** A number if it is exact; the text, which no column reader takes, if it is not. */
function integerOf(text: string): number | string {
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : text;
}
