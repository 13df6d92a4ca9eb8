import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';

/** How a child process ended. */
export interface CommandResult {
  /** Null where a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** The whole environment: nothing is inherited, so that no proxy or setting of the machine gets in. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Milliseconds; then the process is killed and the promise rejects. @default 120_000 */
  readonly timeoutMs?: number;
}

/** A command that was to succeed and did not; the message has its standard error. */
class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly result: CommandResult;

  constructor(command: readonly string[], result: CommandResult) {
    const tail = result.stderr.trim().split('\n').slice(-20).join('\n');
    super(`Command failed with code ${result.code}: ${command.join(' ')}\n${tail}`);
    this.result = result;
  }
}

/**
 * Runs a command to its end, whatever its exit code.
 *
 * @throws Error where it cannot be started, or did not end in time
 */
export async function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  const chunks: Buffer[] = [];
  const { code, stderr } = await run(program, args, options, (chunk) => chunks.push(chunk));
  return { code, stdout: Buffer.concat(chunks).toString('utf8'), stderr };
}

/**
 * Runs a command that must succeed.
 *
 * @returns its standard output
 * @throws CommandError
 */
export async function checkedCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<string> {
  const result = await runCommand(program, args, options);
  if (result.code !== 0) throw new CommandError([program, ...args], result);
  return result.stdout;
}

/** SHA-256 (hex) and length in bytes of what a command prints, without keeping it. @throws CommandError */
export async function digestOfOutput(
  program: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<{ readonly sha256: string; readonly size: number }> {
  const hash: Hash = createHash('sha256');
  let size = 0;
  const { code, stderr } = await run(program, args, options, (chunk) => {
    hash.update(chunk);
    size += chunk.length;
  });
  if (code !== 0) throw new CommandError([program, ...args], { code, stdout: '', stderr });
  return { sha256: hash.digest('hex'), size };
}

function run(
  program: string,
  args: readonly string[],
  { env, cwd, timeoutMs = 120_000 }: CommandOptions,
  onOutput: (chunk: Buffer) => void,
): Promise<{ readonly code: number | null; readonly stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    let stderr = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    child.stdout.on('data', onOutput);
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString('utf8');
    });
    child.on('error', (cause) => {
      clearTimeout(timer);
      reject(new Error(`Cannot run ${program}: ${cause.message}`, { cause }));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      if (late) {
        reject(
          new Error(`Command did not end within ${timeoutMs} ms: ${program} ${args.join(' ')}\n${stderr}`),
        );
      } else {
        resolve({ code, stderr });
      }
    });
  });
}
