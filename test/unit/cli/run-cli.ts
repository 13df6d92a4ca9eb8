import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** The command as it is installed. */
export const MAIN: string = fileURLToPath(new URL('../../../bin/snowcap.js', import.meta.url));

/** How a command ended. */
export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** The whole environment of settings; nothing is passed on from this process but PATH. */
  readonly environment?: Readonly<Record<string, string>>;
  /** What is piped in. @default '' */
  readonly input?: string;
  readonly directory: string;
}

/** Runs `snowcap` as a process of its own, at most 30 seconds. */
export async function runCli(words: readonly string[], options: RunOptions): Promise<CliResult> {
  const child = spawn(process.execPath, [MAIN, ...words], {
    cwd: options.directory,
    env: { PATH: process.env['PATH'], ...options.environment },
    timeout: 30_000,
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output.stdout += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (output.stderr += chunk));
  child.stdin.on('error', () => undefined).end(options.input ?? '');
  await once(child, 'close');
  return { code: child.exitCode, ...output };
}
