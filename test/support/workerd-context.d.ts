import type { D1Migration } from '@cloudflare/vitest-plugin';

declare module 'vitest' {
  /** What the set-up gives to the suite inside workerd. */
  interface ProvidedContext {
    /** Those of `drizzle/sqlite`, read as wrangler reads them. */
    readonly migrations: readonly D1Migration[];
    /** For formats whose encoder is not installed, the reason to skip what needs it. */
    readonly missingTools: Readonly<Record<string, string>>;
  }
}
