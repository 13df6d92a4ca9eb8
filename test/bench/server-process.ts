import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';

/** A server under measurement. */
export interface MeasuredServer {
  readonly port: number;
  readonly url: string;
  /** Process id of the one that does the work. */
  readonly pid: number;
  /** Ends it and waits for that. */
  stop(): Promise<void>;
}

/** Starts a program and waits until `url` answers 200. @throws Error with its output where it ends before */
export async function startServer(
  program: string,
  args: readonly string[],
  options: {
    readonly port: number;
    readonly probe: string;
    readonly cwd: string;
    readonly env: NodeJS.ProcessEnv;
  },
): Promise<MeasuredServer> {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: options.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString('utf8')).slice(-8192);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  child.on('error', (error) => keep(Buffer.from(error.message)));
  const url = `http://127.0.0.1:${options.port}`;
  const deadline = Date.now() + 20_000;
  while (!(await answers(`${url}${options.probe}`))) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
      throw new Error(`Cannot start ${program}: it ended with code ${child.exitCode}\n${output}`);
    }
    if (Date.now() > deadline) {
      await stopChild(child);
      throw new Error(`Cannot start ${program}: ${url} does not answer within 20 seconds\n${output}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return { port: options.port, url, pid: child.pid ?? 0, stop: () => stopChild(child) };
}

/** The highest resident set size that a process ever had, in bytes (VmHWM of proc(5)). */
export async function peakRss(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}

/** Waits until a process has used almost no CPU for half a second, at most a minute: its background work is done. */
export async function untilIdle(pid: number): Promise<void> {
  const deadline = Date.now() + 60_000;
  let before = await cpuTicks(pid);
  while (Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const now = await cpuTicks(pid);
    if (now - before <= 1) return;
    before = now;
  }
}

/** Seconds of CPU that all threads of a process have taken so far. */
export async function cpuSeconds(pid: number): Promise<number> {
  return (await cpuTicks(pid)) / 100;
}

/** User and system time of all threads, in ticks of 10 ms (fields 14 and 15 of proc(5) stat). */
async function cpuTicks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url);
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    return false;
  }
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await gone;
  clearTimeout(timer);
}
