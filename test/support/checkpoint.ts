import { spawn } from 'node:child_process';
import { COMPILED } from './compiled.ts';

/** A checkpoint that kills this process, as a power switch would, before the given step is taken for the `occurrence`th time. */
export function killAt(step: string, occurrence = 1): (step: string) => void {
  let seen = 0;
  return (taken) => {
    if (taken !== step) return;
    seen += 1;
    if (seen === occurrence) process.kill(process.pid, 'SIGKILL');
  };
}

export interface RecordedSteps {
  /** The steps taken so far, in order. */
  readonly steps: readonly string[];
  readonly checkpoint: (step: string) => void;
}

/** A checkpoint that only remembers the steps: to know which ones there are to be killed at. */
export function recordSteps(): RecordedSteps {
  const steps: string[] = [];
  return {
    steps,
    checkpoint: (step) => {
      steps.push(step);
    },
  };
}

export interface ScriptEnd {
  /** Null where a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a TypeScript file in a process of its own, with the Node that runs the tests.
 *
 * @param options.killAfterMs SIGKILL after so many milliseconds
 * @param options.environment beside PATH; left out: that of the tests
 * @param options.fileSizeLimit the largest file in KiB that it may write: a write past it fails as on a full disk
 */
export function runScript(
  script: string,
  args: readonly string[],
  options: {
    readonly killAfterMs?: number;
    readonly fileSizeLimit?: number;
    readonly environment?: Readonly<Record<string, string>>;
  } = {},
): Promise<ScriptEnd> {
  const { fileSizeLimit, killAfterMs, environment } = options;
  const env = {
    NODE_COMPILE_CACHE: COMPILED,
    ...(environment === undefined ? process.env : { PATH: process.env['PATH'], ...environment }),
  };
  const command = [process.execPath, script, ...args] as const;
  const child =
    fileSizeLimit === undefined
      ? spawn(command[0], command.slice(1), { env })
      : spawn('bash', ['-c', `ulimit -f ${fileSizeLimit} && exec "$@"`, 'bash', ...command], { env });
  const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    });
  });
}
