import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, vi } from 'vitest';
import { closureOf } from '../support/closure.ts';
import type { Closure, ClosurePath } from '../support/closure.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { createNixStore } from '../support/nix-store.ts';
import type { NixStore, ValidPath } from '../support/nix-store.ts';
import { SnowcapProcess } from '../support/snowcap-process.ts';
import type { SnowcapOptions } from '../support/snowcap-process.ts';
import { startUpstream } from '../support/upstream-server.ts';
import type { UpstreamQuirk } from '../support/upstream-server.ts';

/** Starts what a test file needs, and ends all of it after the last test of the file. */
export interface Bench {
  /** A client with an empty store that never asked any cache. */
  client(): Promise<NixStore>;
  snowcap(options: SnowcapOptions): Promise<SnowcapProcess>;
  upstream(directory: string, quirk?: UpstreamQuirk): Promise<FaultServer>;
  /** Ends something else at the end, in reverse order of these calls. */
  afterwards(end: () => Promise<unknown>): void;
}

/** To be called while a test file is collected. */
export function createBench(): Bench {
  const ends: (() => Promise<unknown>)[] = [];
  afterAll(async () => {
    for (const end of ends.splice(0).toReversed()) await end();
  });
  return {
    async client() {
      const store = await createNixStore();
      ends.push(() => store.remove());
      return store;
    },
    async snowcap(options) {
      const snowcap = await SnowcapProcess.start(options);
      ends.push(() => snowcap.dispose());
      return snowcap;
    },
    async upstream(directory, quirk) {
      const server = await startUpstream(directory, quirk);
      ends.push(() => server.close());
      return server;
    },
    afterwards: (end) => void ends.push(end),
  };
}

/** Every path below `roots` is valid in the client's store, with the references and the very NAR of the source. */
export async function expectSameAsSource(
  client: NixStore,
  closure: Closure,
  ...roots: readonly string[]
): Promise<void> {
  const wanted = new Set(roots.flatMap((root) => closureOf(closure, root)).map(({ path }) => path));
  const valid = await client.validPaths();
  expect(
    [...wanted].filter((path) => !valid.has(path)),
    'paths that the client does not have',
  ).toEqual([]);
  await expectNothingWrong(client, closure);
}

/** Whatever is valid in the client's store is the same as in the source. */
export async function expectNothingWrong(client: NixStore, closure: Closure): Promise<void> {
  const valid = [...(await client.validPaths()).values()];
  const digests = await client.narDigests(valid.map(({ path }) => path));
  const wrong = valid.filter((copy, index) => {
    const source = closure.paths.get(copy.path);
    return source === undefined || !isSame(source, copy) || source.sha256 !== digests[index];
  });
  expect(
    wrong.map(({ path }) => path),
    'paths that differ from the source',
  ).toEqual([]);
}

function isSame(source: ClosurePath, copy: ValidPath): boolean {
  return (
    source.size === copy.narSize &&
    source.ca === copy.ca &&
    source.references.join(' ') === copy.references.join(' ')
  );
}

/**
 * Every NAR in Snowcap's storage has the bytes of a NAR of the genuine cache directories.
 *
 * @returns how many there are
 */
export async function expectGenuineStorage(
  snowcap: SnowcapProcess,
  genuine: readonly string[],
): Promise<number> {
  const known = new Set(
    (await Promise.all(genuine.map(narDigests))).flatMap((digests) => [...digests.values()]),
  );
  const stored = await narDigests(snowcap.storage);
  const wrong = [...stored].filter(([, digest]) => !known.has(digest)).map(([name]) => name);
  expect(wrong, 'stored NARs that no upstream has').toEqual([]);
  return stored.size;
}

/** The last client may have its answers before all that was given is stored: a busy disk takes its time. */
export async function whenStored(
  snowcap: SnowcapProcess,
  closure: Closure,
  ...roots: readonly string[]
): Promise<void> {
  const wanted = roots
    .flatMap((root) => closureOf(closure, root))
    .map(({ path }) => narInfoRoute(path).slice(1));
  await vi.waitFor(
    async () => {
      const there = new Set(await readdir(snowcap.storage));
      expect(wanted.filter((name) => !there.has(name))).toEqual([]);
    },
    { timeout: 30_000, interval: 100 },
  );
}

/** SHA-256 of every file in `nar/`, by name. */
async function narDigests(cache: string): Promise<ReadonlyMap<string, string>> {
  const entries = await readdir(join(cache, 'nar'), { recursive: true, withFileTypes: true }).catch(() => []);
  const digests = new Map<string, string>();
  for (const entry of entries.filter((candidate) => candidate.isFile())) {
    const bytes = await readFile(join(entry.parentPath, entry.name));
    digests.set(entry.name, createHash('sha256').update(bytes).digest('hex'));
  }
  return digests;
}

/** `/<hash>.narinfo` of a store path. */
export function narInfoRoute(path: string): string {
  return `/${path.slice('/nix/store/'.length, '/nix/store/'.length + 32)}.narinfo`;
}

/** How often each NAR was asked for, by its URL. */
export function narRequests(upstream: FaultServer): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { path } of upstream.requestsTo(/^\/nar\//, 'GET'))
    counts.set(path, (counts.get(path) ?? 0) + 1);
  return counts;
}
