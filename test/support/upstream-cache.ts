import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Closure } from './closure.ts';
import { madeOnce } from './closure-lock.ts';
import type { NixStore } from './nix-store.ts';

/** What Nix can compress NARs with. */
export const UPSTREAM_COMPRESSIONS = ['xz', 'zstd', 'br', 'bzip2', 'gzip', 'none'] as const;

export type UpstreamCompression = (typeof UPSTREAM_COMPRESSIONS)[number];

export interface UpstreamCacheOptions {
  readonly compression: UpstreamCompression;
  /** File of a secret key; left out: the narinfos are unsigned. */
  readonly secretKeyFile?: string;
  /** Whether `.ls` listings are written too. */
  readonly listings?: boolean;
}

/** A narinfo as its lines, in order; the keys may repeat. */
export type NarInfoLines = readonly (readonly [key: string, value: string])[];

/** Lets Nix write the closure of `paths` into a cache directory. Its other narinfos stay. */
export async function writeUpstreamCache(
  store: NixStore,
  paths: readonly string[],
  directory: string,
  { compression, secretKeyFile, listings = false }: UpstreamCacheOptions,
): Promise<void> {
  const parameters = [
    `compression=${compression}`,
    // The default level takes seven seconds for xz, and shows nothing more.
    ...(compression === 'xz' ? ['compression-level=1'] : []),
    ...(secretKeyFile === undefined ? [] : [`secret-key=${secretKeyFile}`]),
    ...(listings ? ['write-nar-listing=1'] : []),
  ];
  await store.check('nix', ['copy', '--to', `file://${directory}?${parameters.join('&')}`, ...paths]);
}

/** The cache directory of the whole closure in one compression, made once per run. Not to be changed. */
export function upstreamCacheOf(
  closure: Closure,
  compression: UpstreamCompression,
  signing: 'signed' | 'unsigned' = 'signed',
): Promise<string> {
  return madeOnce(closure.directory, `upstream-${compression}-${signing}`, (place) =>
    writeUpstreamCache(closure.store, [closure.root], place, {
      compression,
      ...(signing === 'signed' ? { secretKeyFile: closure.secretKeyFile } : {}),
    }),
  );
}

/** Every narinfo of a cache directory, by the hash of its store path. */
export async function readNarInfos(directory: string): Promise<ReadonlyMap<string, NarInfoLines>> {
  const files = (await readdir(directory)).filter((file) => file.endsWith('.narinfo'));
  return new Map(
    await Promise.all(
      files.map(async (file): Promise<[string, NarInfoLines]> => [
        file.slice(0, -'.narinfo'.length),
        narInfoLines(await readFile(join(directory, file), 'utf8')),
      ]),
    ),
  );
}

/** Deliberately not the parser under test. */
export function narInfoLines(text: string): NarInfoLines {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]);
}

export function narInfoText(lines: NarInfoLines): string {
  return lines.map(([key, value]) => `${key}: ${value}\n`).join('');
}

/** The value of a field. @throws Error where the narinfo has none */
export function narInfoField(lines: NarInfoLines, key: string): string {
  const value = lines.find(([name]) => name === key)?.[1];
  if (value === undefined) throw new Error(`The narinfo has no ${key}`);
  return value;
}

/** The narinfo with some fields set to other values, or left out where the value is null. */
export function withNarInfoFields(
  lines: NarInfoLines,
  changes: Readonly<Record<string, string | null>>,
): NarInfoLines {
  return lines.flatMap(([key, value]): [string, string][] => {
    const change = changes[key];
    if (change === null) return [];
    return [[key, change ?? value]];
  });
}
