import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));

/** The settings of the checks, taken from the repository as they are. */
const SETTINGS = [
  'package.json',
  'tsconfig.json',
  'tsconfig.portable.json',
  '.dependency-cruiser.js',
  '.oxlintrc.json',
  '.prettierrc.json',
  '.prettierignore',
  'knip.json',
];

/** How a check ended in a planted project. */
export interface CheckResult {
  readonly code: number;
  /** Standard output and standard error. */
  readonly output: string;
}

/** A small project with the settings and libraries of the repository and sources of a test's own. */
export interface PlantedProject {
  run(program: string, ...args: readonly string[]): Promise<CheckResult>;
  remove(): Promise<void>;
}

/** @param files contents by path, as `src/cache/x.ts` */
export async function plantProject(files: Readonly<Record<string, string>>): Promise<PlantedProject> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-gate-'));
  for (const name of SETTINGS) await cp(join(REPOSITORY, name), join(directory, name));
  await symlink(join(REPOSITORY, 'node_modules'), join(directory, 'node_modules'));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), text);
  }
  return {
    run: (program, ...args) =>
      new Promise((resolve) => {
        const file = join(REPOSITORY, 'node_modules/.bin', program);
        const env = {
          ...process.env,
          PATH: `${join(REPOSITORY, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`,
        };
        execFile(file, args, { cwd: directory, env, maxBuffer: 1e8 }, (error, stdout, stderr) => {
          const code = error === null ? 0 : Number(error.code ?? -1);
          resolve({ code, output: stdout + stderr });
        });
      }),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
