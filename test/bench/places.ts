import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Inputs that take long to make; kept from run to run. The number grows when what is in it changes. */
export const KEPT_DIRECTORY: string = join(tmpdir(), 'snowcap-bench-1');

/** The root of the repository. */
export const REPOSITORY: string = fileURLToPath(new URL('../..', import.meta.url));

/** Where the figures of each run go, as JSON. */
export const RESULTS_DIRECTORY: string = fileURLToPath(new URL('results', import.meta.url));

export const HOST = '127.0.0.1';

/** A port that nobody listens on now. For servers that cannot tell which port they got. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, HOST, resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('Cannot find a free port');
  return address.port;
}

/** A line on standard error, so that standard output has the tables only. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
