import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleOnce } from './bundle-directory.ts';
import { checkedCommand } from './nix-command.ts';

const REPOSITORY: string = fileURLToPath(new URL('../../', import.meta.url));

let built: Promise<string> | undefined;

/** The artefact that is deployed to Lambda, built once for a run of the tests. */
export function lambdaBundle(): Promise<string> {
  built ??= bundleOnce('lambda', build);
  return built;
}

async function build(directory: string): Promise<void> {
  await checkedCommand(
    join(REPOSITORY, 'node_modules/.bin/node'),
    [join(REPOSITORY, 'scripts/build-lambda.ts'), directory],
    { env: { PATH: process.env['PATH'] ?? '' }, cwd: REPOSITORY },
  );
}
