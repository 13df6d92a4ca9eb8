import type { Cache } from '../cache/cache.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import type { Platform } from '../platform.ts';
import type { RequestNote } from './observe.ts';

/** What the app is made of. */
export interface AppOptions {
  readonly cache: Cache;
  readonly platform: Platform;
  /** As shown on `/`, the version of this program. */
  readonly version: string;
  /** Hashes of the tokens of administrators, as `sha256:…`. @default none: there are none */
  readonly adminTokens?: readonly string[];
  /** Seconds that shared caches may keep a narinfo. */
  readonly narInfoMaxAge: number;
  /** The exposition behind `/metrics`; without it that page is not there. */
  readonly exposition?: () => Promise<{ readonly contentType: string; readonly body: string }>;
}

/** What a runtime may hand in with each request. */
export interface Bindings {
  /**
   * Sends a streamed body in the runtime's own way, and resolves with what the handler returns. Without it the
   * body goes out as a web stream. Must break the connection, not end it, where the stream throws.
   */
  readonly sendStream?: (head: ResponseHead, body: ByteStream) => Promise<Response>;
}

export interface ResponseHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
}

/** The types that hono knows of our requests. */
export interface AppEnv {
  Bindings: Bindings;
  Variables: { readonly note: RequestNote };
}
