import { join } from 'node:path';
import { startFaultServer } from './fault-server.ts';
import type { Behaviour, FaultServer } from './fault-server.ts';
import { narInfoField, narInfoText, readNarInfos, withNarInfoFields } from './upstream-cache.ts';
import type { UpstreamCompression } from './upstream-cache.ts';

/** How a cache server differs from plain files. Left out: as plain files. */
export interface UpstreamQuirk {
  /** What this imitates, for the name of a test. */
  readonly title: string;
  readonly compression: UpstreamCompression;
  /** The `URL` of a NAR; it may carry a query, without which the server answers 404. */
  readonly narUrl?: (nar: NarNames) => string;
  /** Fields that the narinfos do not have. */
  readonly withoutFields?: readonly string[];
  readonly nars?: Behaviour;
  readonly narInfos?: Behaviour;
  /** What is answered for what is not there. @default 404 */
  readonly missingStatus?: number;
}

/** What a `URL` can be made of; all in nix32, without `sha256:`. */
export interface NarNames {
  readonly storeHash: string;
  readonly narHash: string;
  readonly fileHash: string;
  /** Bytes of the NAR. */
  readonly narSize: string;
}

/** Servers that stand behind a cache like this one, as they are met in the world. */
export const UPSTREAM_QUIRKS: readonly UpstreamQuirk[] = [
  {
    title: 'Cachix (opaque URLs)',
    compression: 'zstd',
    narUrl: ({ fileHash }) => `nar/${opaqueId(fileHash)}.nar.zst`,
  },
  {
    title: 'Attic (named by the store hash, no FileHash and no FileSize)',
    compression: 'zstd',
    narUrl: ({ storeHash }) => `nar/${storeHash}.nar.zst`,
    withoutFields: ['FileHash', 'FileSize'],
  },
  {
    title: 'nix-serve (named by both hashes, uncompressed, no FileHash and no FileSize)',
    compression: 'none',
    narUrl: ({ storeHash, narHash }) => `nar/${storeHash}-${narHash}.nar`,
    withoutFields: ['FileHash', 'FileSize'],
  },
  {
    title: 'harmonia (a query in the URL)',
    compression: 'none',
    narUrl: ({ storeHash, narHash }) => `nar/${narHash}.nar?hash=${storeHash}`,
  },
  {
    title: 'snix (a path of its own, a query that is required, no FileHash and no FileSize)',
    compression: 'none',
    narUrl: ({ narHash, narSize }) => `nar/snix-castore/${narHash}?narsize=${narSize}`,
    withoutFields: ['FileHash', 'FileSize'],
  },
  {
    title: 'a server that sends Content-Encoding: gzip',
    compression: 'none',
    nars: { contentEncoding: 'gzip', ranges: false },
    narInfos: { contentEncoding: 'gzip', ranges: false },
  },
  {
    title: 'a server that sends Content-Encoding: br, chunked',
    compression: 'none',
    nars: { contentEncoding: 'br', contentLength: 'chunked', ranges: false },
  },
  {
    title: 'a bucket that answers 403 for what is missing',
    compression: 'xz',
    missingStatus: 403,
  },
  {
    title: 'a server without Content-Length (chunked)',
    compression: 'zstd',
    nars: { contentLength: 'chunked', ranges: false },
    narInfos: { contentLength: 'chunked', ranges: false },
  },
  {
    title: 'a server without Content-Length (ended by closing), no FileHash and no FileSize',
    compression: 'zstd',
    nars: { contentLength: 'close', ranges: false },
    withoutFields: ['FileHash', 'FileSize'],
  },
];

/** Serves a cache directory over HTTP, with the quirk if one is given. Close it. */
export async function startUpstream(directory: string, quirk?: UpstreamQuirk): Promise<FaultServer> {
  const server = await startFaultServer(
    quirk?.missingStatus === undefined ? {} : { missingStatus: quirk.missingStatus },
  );
  server.static(directory);
  if (quirk !== undefined) await applyQuirk(server, directory, quirk);
  return server;
}

async function applyQuirk(server: FaultServer, directory: string, quirk: UpstreamQuirk): Promise<void> {
  const dropped = Object.fromEntries(
    (quirk.withoutFields ?? []).map((field): [string, null] => [field, null]),
  );
  const narInfos = await readNarInfos(directory);
  if (quirk.narUrl !== undefined) {
    // The names that Nix gave lead nowhere here. First, since a later route is looked at before an earlier one.
    const missing = { status: quirk.missingStatus ?? 404, body: 'not here\n' };
    for (const lines of narInfos.values()) server.route(`/${narInfoField(lines, 'URL')}`, missing);
  }
  for (const [storeHash, lines] of narInfos) {
    const written = narInfoField(lines, 'URL');
    const url =
      quirk.narUrl?.({
        storeHash,
        narHash: narInfoField(lines, 'NarHash').replace('sha256:', ''),
        fileHash: narInfoField(lines, 'FileHash').replace('sha256:', ''),
        narSize: narInfoField(lines, 'NarSize'),
      }) ?? written;
    const text = narInfoText(withNarInfoFields(lines, { ...dropped, URL: url }));
    server.route(`/${storeHash}.narinfo`, { ...quirk.narInfos, body: text });
    server.route(`/${url}`, { ...quirk.nars, body: { file: join(directory, written) } });
  }
}

/** Looks like a UUID, is not a hash of anything, and is the same each time for the same NAR. */
function opaqueId(fileHash: string): string {
  const hex = Buffer.from(fileHash).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    '-',
  );
}
