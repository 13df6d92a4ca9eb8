import { createHash, randomBytes } from 'node:crypto';
import { open as openCallback, readFileSync, readlinkSync } from 'node:fs';
import { lstat, mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { SweepOptions, SweepResult } from './blob-store.ts';

const open = promisify(openCallback);

/**
 * A folder for the unfinished files of one writer, beside those of other writers, so that what a killed
 * process left can be told from what a living one is writing.
 */
export interface WriterFolder {
  readonly path: string;
  /**
   * Makes and opens a new file. If another host took the folder for abandoned and removed it, it is made anew.
   *
   * @param flags of node:fs, with `x`: the name is new
   */
  create(flags: 'wx' | 'wx+'): Promise<CreatedFile>;
  /**
   * Removes the folders of writers that are gone. Writers of this machine are known to be gone when their
   * process is; others when nothing in their folder changed since `olderThan` (milliseconds since the epoch).
   * The folder of a living process is never touched. A process id that was given anew to another
   * program keeps its old folder until that program ends.
   */
  sweep(olderThan: number, options?: SweepOptions): Promise<SweepResult>;
  /** Removes the folder if it is empty; what is left in it falls to the next sweep. */
  close(): Promise<void>;
}

/** An open file and where it is. */
export interface CreatedFile {
  readonly descriptor: number;
  readonly path: string;
}

/** Who a writer is. */
export interface WriterIdentity {
  /** Names the machine and the space in which `pid` means something. */
  readonly host: string;
  readonly pid: number;
  isAlive(pid: number): boolean;
}

const FOLDER_NAME = /^(.+)-(\d+)-[0-9a-f]{16}$/;

/** The folders of this process, over all stores and spools: its own id alone does not make a folder a leftover. */
const ownFolders = new Set<string>();

/**
 * Makes `<parent>/<host>-<pid>-<random>`, with its parents.
 *
 * @param identity for tests
 * @throws the error of node:fs
 */
export async function openWriterFolder(
  parent: string,
  identity: WriterIdentity = thisProcess(),
): Promise<WriterFolder> {
  const path = join(parent, `${identity.host}-${identity.pid}-${randomBytes(8).toString('hex')}`);
  let created = 0;
  await mkdir(path, { recursive: true });
  ownFolders.add(path);
  return {
    path,

    async create(flags) {
      const file = join(path, `${created++}`);
      try {
        return { descriptor: await open(file, flags), path: file };
      } catch (error) {
        if (errorCode(error) !== 'ENOENT') throw error;
        await mkdir(path, { recursive: true });
        return { descriptor: await open(file, flags), path: file };
      }
    },

    async sweep(olderThan, { dryRun = false } = {}) {
      let removed = 0;
      let freed = 0;
      for (const name of await namesIn(parent)) {
        const folder = join(parent, name);
        if (ownFolders.has(folder)) continue;
        const contents = await inspect(folder);
        if (!isAbandoned(name, identity) && !(isOfOthers(name, identity) && contents.changedAt < olderThan))
          continue;
        if (!dryRun) await rm(folder, { recursive: true, force: true });
        removed += contents.files;
        freed += contents.bytes;
      }
      return { removed, freed };
    },

    async close() {
      ownFolders.delete(path);
      await rmdir(path).catch(() => undefined);
    },
  };
}

/** The `code` of an error of the system, as `ENOENT`; undefined for other errors. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

function isAbandoned(name: string, identity: WriterIdentity): boolean {
  const [, host, digits] = FOLDER_NAME.exec(name) ?? [];
  if (host !== identity.host || digits === undefined) return false;
  const pid = Number(digits);
  // Our own id in a folder that is not ours: an earlier process had it.
  return pid === identity.pid || !identity.isAlive(pid);
}

function isOfOthers(name: string, identity: WriterIdentity): boolean {
  return FOLDER_NAME.exec(name)?.[1] !== identity.host;
}

interface FolderContents {
  readonly files: number;
  readonly bytes: number;
  /** Milliseconds since the epoch: the newest of the folder and its files. */
  readonly changedAt: number;
}

/** Another sweep may remove the same folder at the same time: what is gone counts as nothing. */
async function inspect(folder: string): Promise<FolderContents> {
  let files = 0;
  let bytes = 0;
  let changedAt = (await lstatOrNull(folder))?.mtimeMs ?? 0;
  for (const name of await namesIn(folder)) {
    const stat = await lstatOrNull(join(folder, name));
    if (stat === null) continue;
    files += 1;
    bytes += stat.size;
    changedAt = Math.max(changedAt, stat.mtimeMs);
  }
  return { files, bytes, changedAt };
}

async function lstatOrNull(
  path: string,
): Promise<{ readonly mtimeMs: number; readonly size: number } | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}

/**
 * A process id means something within one boot of one machine and one space of process ids. Containers often share
 * a host name, and all of them run as process 1; so both go into the name of the host where the system tells them
 * (Linux: proc(5), namespaces(7)).
 */
function thisProcess(): WriterIdentity {
  const space = createHash('sha256');
  try {
    space.update(readFileSync('/proc/sys/kernel/random/boot_id')).update(readlinkSync('/proc/self/ns/pid'));
  } catch {
    space.update(process.platform);
  }
  const name = hostname()
    .replaceAll(/[^0-9A-Za-z.-]/g, '_')
    .slice(0, 100);
  return { host: `${name}.${space.digest('hex').slice(0, 8)}`, pid: process.pid, isAlive };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: there is such a process, of another user.
    return errorCode(error) !== 'ESRCH';
  }
}
