import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkedCommand } from './nix-command.ts';

const REPOSITORY: string = fileURLToPath(new URL('../../', import.meta.url));

let built: Promise<string> | undefined;

/** The artefact that is deployed to Lambda, built once for a test file into a directory that goes with the process. */
export function lambdaBundle(): Promise<string> {
  built ??= build();
  return built;
}

async function build(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-lambda-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  await checkedCommand(
    join(REPOSITORY, 'node_modules/.bin/node'),
    [join(REPOSITORY, 'scripts/build-lambda.ts'), directory],
    { env: { PATH: process.env['PATH'] ?? '' }, cwd: REPOSITORY },
  );
  return directory;
}
