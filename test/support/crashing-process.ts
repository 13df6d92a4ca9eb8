import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { COMPILED } from './compiled.ts';
import { until } from './test-cache.ts';

const ENTRY: string = fileURLToPath(new URL('crash-entry.ts', import.meta.url));

/** A Snowcap in a process of its own that ends itself at a write step. */
export interface CrashingProcess {
  readonly url: string;
  /** Write steps since `record`. */
  readonly steps: readonly string[];
  /** Resolves when the process is gone. */
  readonly gone: Promise<void>;
  isGone(): boolean;
  /** SIGKILL just before the step is taken for the `occurrence`th time from now on. */
  arm(step: string, occurrence: number): Promise<void>;
  record(): Promise<void>;
  kill(): Promise<void>;
}

/** Starts it with storage, index and key below `directory`. @throws Error where it does not get ready */
export async function startCrashing(
  directory: string,
  upstreams: readonly string[],
  trustedPublicKeys: readonly string[],
): Promise<CrashingProcess> {
  const child: ChildProcess = spawn(process.execPath, [ENTRY], {
    cwd: directory,
    env: {
      PATH: process.env['PATH'] ?? '',
      NODE_COMPILE_CACHE: COMPILED,
      SNOWCAP_LISTEN: '127.0.0.1:0',
      SNOWCAP_STORAGE: `file:${join(directory, 'storage')}`,
      SNOWCAP_DATABASE: `sqlite:${join(directory, 'index.db')}`,
      SNOWCAP_UPSTREAMS: upstreams.join(' '),
      SNOWCAP_TRUSTED_PUBLIC_KEYS: trustedPublicKeys.join(' '),
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const steps: string[] = [];
  let url: string | null = null;
  let answers = 0;
  let exited = false;
  const gone = new Promise<void>((resolve) => {
    child.once('close', () => {
      exited = true;
      resolve();
    });
  });
  if (child.stdout === null || child.stdin === null) throw new Error('The process has no pipes');
  child.stdin.on('error', () => undefined);
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [word, rest = ''] = line.split(' ', 2);
    if (word === 'listening') url = rest;
    else if (word === 'step') steps.push(rest);
    else answers += 1;
  });
  const tell = async (line: string): Promise<void> => {
    const before = answers;
    child.stdin?.write(`${line}\n`);
    await until(() => answers > before || exited);
  };
  await until(
    () => url !== null || exited,
    () => 'the process does not listen',
    20_000,
  );
  if (url === null) throw new Error('The process ended before it listened');
  return {
    url,
    steps,
    gone,
    isGone: () => exited,
    arm: (step, occurrence) => tell(`arm ${step} ${occurrence}`),
    record: () => tell('record'),
    async kill() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}
