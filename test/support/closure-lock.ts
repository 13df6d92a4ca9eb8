import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const LONGEST_WAIT_MS = 180_000;

/**
 * Makes something once for all processes of a test run: whoever comes first makes it, the others wait. It
 * appears whole, by a rename.
 *
 * @param name of the file or directory below `directory`
 * @param make makes it at the place given, which is a new directory beside the final one
 * @returns the final place
 * @throws what `make` throws; the next one who asks tries again
 */
export async function madeOnce(
  directory: string,
  name: string,
  make: (place: string) => Promise<void>,
): Promise<string> {
  const place = join(directory, name);
  const lock = `${place}.lock`;
  await mkdir(directory, { recursive: true });
  for (let waited = 0; waited < LONGEST_WAIT_MS; waited += 100) {
    if (await exists(place)) return place;
    if (await taken(lock)) {
      try {
        if (await exists(place)) return place;
        const partial = `${place}.partial`;
        await rm(partial, { recursive: true, force: true });
        await mkdir(partial);
        await make(partial);
        await rename(partial, place);
        return place;
      } finally {
        await rm(lock, { force: true });
      }
    }
    await sleep(100);
  }
  throw new Error(`Waited ${LONGEST_WAIT_MS} ms in vain for another process to make ${place}`);
}

/** Takes the lock if it is free, or was left by a process that is gone. */
async function taken(lock: string): Promise<boolean> {
  try {
    await writeFile(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch {
    const owner = Number(await readFile(lock, 'utf8').catch(() => ''));
    if (owner > 0 && !isAlive(owner)) await rm(lock, { force: true });
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function exists(place: string): Promise<boolean> {
  return (await stat(place).catch(() => null)) !== null;
}
