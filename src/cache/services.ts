import type { MetadataStore } from '../database/metadata-store.ts';
import type { UpkeepStore } from '../database/upkeep-store.ts';
import type { LockManager } from '../lock/lock-manager.ts';
import type { Compression, DecompressLimits } from '../nar/decompress.ts';
import type { NarDigest } from '../nar/digest.ts';
import type { PublicKey, Signer } from '../nix/signing-key.ts';
import type { Platform } from '../platform.ts';
import type { Spool } from '../spool/spool.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

/** Everything that the use cases stand on. Composed once, by the runtime. */
export interface CacheServices {
  readonly platform: Platform;
  readonly storage: BlobStore;
  readonly metadata: MetadataStore;
  /** The rest of the same index. */
  readonly upkeep: UpkeepStore;
  readonly locks: LockManager;
  readonly upstreams: Upstreams;
  /** Memory for small bodies in flight. */
  readonly memorySpool: Spool;
  /** Local disk for bodies in flight; null where there is none (larger bodies then go through the store's streamed put). */
  readonly spool: Spool | null;
  /** The first signs new paths, all add their signatures. */
  readonly signers: readonly Signer[];
  /** Trusted keys by their text (`name:base64`). Our own keys are trusted only where they are listed too. */
  readonly trustedKeys: ReadonlyMap<string, PublicKey>;
  /**
   * Hashes an encoded NAR that is in storage already. May run elsewhere than on this thread. Consumes the
   * stream; throws where it does not decode.
   */
  digestNar(stream: ByteStream, compression: Compression, limits: DecompressLimits): Promise<NarDigest>;
  readonly settings: CacheSettings;
}

export interface CacheSettings {
  readonly storeDir: string;
  /** `nar`: NarHash is checked too, inline or in the background. `file`: FileHash and size only. */
  readonly verify: 'nar' | 'file';
  /** Bytes of memory that bodies in flight may take, over the whole process. */
  readonly bufferLimit: number;
  /** Bytes of local disk that bodies in flight may take, over the whole process. */
  readonly spoolLimit: number;
  /** Bytes that the stored bodies may take together. A larger body is streamed, never stored. */
  readonly maxSize: number;
  /** From 0 to 1: the part of `maxSize` down to which an eviction goes. */
  readonly lowWater: number;
  /** Milliseconds without access after which a pushed path may be evicted; 0: always; null: never. */
  readonly evictPushedAfterMs: number | null;
  /** Milliseconds for which an unused path is remembered without its NAR; null: for ever. */
  readonly metadataRetentionMs: number | null;
  /** How many paths are remembered. */
  readonly metadataMaxPaths: number;
  /** Milliseconds that a rendered narinfo may be answered from memory. */
  readonly narInfoTtlMs: number;
  /** Milliseconds that a 404 of every upstream is remembered. */
  readonly negativeTtlMs: number;
  /** Milliseconds that a fill waits for another instance which fetches the same NAR. */
  readonly fillWaitMs: number;
  /** How stored NARs are given: through this process, or by a redirect to the store, where it can be reached by clients. */
  readonly delivery: 'proxy' | 'redirect';
  /** Seconds that the URL of a redirect works. */
  readonly redirectTtlSeconds: number;
  /**
   * With `redirect`, what becomes of a NAR that is not stored. Null: it is streamed while it is stored. A number: one
   * of up to so many bytes is stored first and then redirected to; a larger one is redirected to its upstream.
   */
  readonly fillBeforeRedirect: number | null;
  /** Our own priority, as nix-cache-info tells it. */
  readonly priority: number;
}
