import { parseCacheInfo } from '../nix/cache-info.ts';
import { smallText } from './content-encoding.ts';
import { leave } from './response-body.ts';
import { TransportError } from './transport.ts';
import type { TransportResponse } from './transport.ts';

/** What came of asking an upstream for its nix-cache-info. */
export type CacheInfoReading =
  | { readonly kind: 'readable'; readonly priority: number | null }
  /** It answers, but not with one: no proof of anything but life. */
  | { readonly kind: 'unreadable'; readonly reason: string }
  | { readonly kind: 'fault'; readonly reason: string };

/** What is known of an upstream's nix-cache-info in this process. */
export interface CacheInfoMemory {
  /** As it was read last; null while it was not, or where it has none. */
  priority: number | null;
  /** The last reading; `until` is in milliseconds since the epoch. */
  last: { readonly readable: boolean; readonly until: number } | null;
}

export interface CacheInfoReaderOptions {
  readonly memory: CacheInfoMemory;
  /** One request for nix-cache-info, with the credentials of the upstream. */
  request(): Promise<TransportResponse>;
  /** Milliseconds since the epoch. */
  now(): number;
  /** Milliseconds that a reading is believed when it was readable, and when it was not. */
  readonly ttlMs: number;
  readonly retryMs: number;
  /** Told of a reading that nobody waits for, so that the runtime lets it end. */
  background(reading: Promise<unknown>): void;
  /** Told of every reading. */
  onReading(reading: CacheInfoReading): void;
}

/** Reads an upstream's nix-cache-info when it is wanted, one request at a time, and remembers it. */
export class CacheInfoReader {
  readonly #options: CacheInfoReaderOptions;
  #reading: Promise<CacheInfoReading> | null = null;

  constructor(options: CacheInfoReaderOptions) {
    this.#options = options;
  }

  /** As it was read last; null while it was not, or where it has none. */
  get priority(): number | null {
    return this.#options.memory.priority;
  }

  /** Reads it in the background if what is remembered is too old. */
  refresh(): void {
    if (this.#remembered() === null && this.#reading === null) this.#options.background(this.read());
  }

  /** Whether it can be read: as remembered, else as it is now. */
  async isReadable(): Promise<boolean> {
    return this.#remembered() ?? (await this.read()).kind === 'readable';
  }

  /** Reads it now. Never rejects. */
  read(): Promise<CacheInfoReading> {
    this.#reading ??= this.#fetch().then((reading) => {
      const { memory, now, ttlMs, retryMs, onReading } = this.#options;
      const readable = reading.kind === 'readable';
      if (readable) memory.priority = reading.priority;
      memory.last = { readable, until: now() + (readable ? ttlMs : retryMs) };
      this.#reading = null;
      onReading(reading);
      return reading;
    });
    return this.#reading;
  }

  #remembered(): boolean | null {
    const { memory, now } = this.#options;
    return memory.last !== null && now() < memory.last.until ? memory.last.readable : null;
  }

  async #fetch(): Promise<CacheInfoReading> {
    try {
      const response = await this.#options.request();
      if (response.status === 200) {
        const text = await smallText(response, 'nix-cache-info');
        return { kind: 'readable', priority: parseCacheInfo(text).priority };
      }
      await leave(response.body);
      const reason = `answered ${response.status}`;
      if (response.status < 500 && response.status !== 429) return { kind: 'unreadable', reason };
      return { kind: 'fault', reason };
    } catch (error) {
      if (error instanceof TransportError) return { kind: 'fault', reason: error.message };
      return { kind: 'unreadable', reason: error instanceof Error ? error.message : String(error) };
    }
  }
}
