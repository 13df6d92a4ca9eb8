import type { Command } from 'commander';
import type { Config } from '../config/config.ts';
import type { RunningServer } from '../runtime/node.ts';
import type { BufferedLogger } from '../telemetry/pino-logger.ts';
import { write } from './context.ts';
import type { CliContext } from './context.ts';
import { requireFiles } from './required-files.ts';
import { addSettingsFlags, configOf } from './settings-flags.ts';

/**
 * npm passes an interrupt on that the terminal has sent to the whole group already: what comes within this many
 * milliseconds of the first signal is the same signal.
 */
const SAME_SIGNAL_MS = 1000;

/** After an orderly end the process has this many milliseconds left to end by itself. */
const LINGER_MS = 2000;

const EXIT_CODES = { SIGINT: 128 + 2, SIGTERM: 128 + 15 } as const;
type Signal = keyof typeof EXIT_CODES;

/** `snowcap serve` */
export function registerServe(program: Command, context: CliContext): void {
  addSettingsFlags(program.command('serve'))
    .description('run the cache; each flag can be given as an environment variable too')
    .action((_options: unknown, command: Command) => serve(command, context));
}

async function serve(command: Command, context: CliContext): Promise<void> {
  const signals = listenForSignals();
  const [{ config }, { createPinoLogger }, { startNode }] = await Promise.all([
    configOf(command, context),
    import('../telemetry/pino-logger.ts'),
    import('../runtime/node.ts'),
  ]);
  const logger = await createPinoLogger({ level: config.logLevel, format: config.logFormat });
  endOnUnhandled(logger);
  try {
    await requireFiles(config);
    const running = await startNode(config, { logger, version: context.version });
    const stop = signals.untilSignal();
    await announce(running, config, logger, context);
    const signal = await stop;
    logger.info('shutting down', { signal });
    await running.close();
    logger.info('stopped');
  } finally {
    await logger.flush();
  }
  // What is left by then is an idle connection or a timer that nobody waits for.
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

/**
 * A signal before anything is served ends the process as if nobody listened: a start that hangs must not need
 * more. From `untilSignal` on, the first one is told, and a second one ends the process at once.
 */
function listenForSignals(): { untilSignal(): Promise<Signal> } {
  let tell: ((signal: Signal) => void) | null = null;
  let firstAt: number | null = null;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      const now = performance.now();
      if (tell === null) process.exit(EXIT_CODES[signal]);
      if (firstAt === null) {
        firstAt = now;
        tell(signal);
      } else if (now - firstAt > SAME_SIGNAL_MS) {
        process.exit(EXIT_CODES[signal]);
      }
    });
  }
  return {
    untilSignal: () =>
      new Promise((resolve) => {
        tell = resolve;
      }),
  };
}

/** An error that nobody handled leaves the process in a state that nobody knows: it is logged, and the end. */
function endOnUnhandled(logger: BufferedLogger): void {
  process.on('uncaughtException', (error, origin) => {
    logger.error('unhandled error, the process ends', { error, origin });
    logger.flushSync();
    process.exit(1);
  });
}

async function announce(
  running: RunningServer,
  config: Config,
  logger: BufferedLogger,
  context: CliContext,
): Promise<void> {
  const { baseUrl } = await import('../upstream/upstream-url.ts');
  for (const upstream of config.upstreams) {
    if (!upstream.allowUnsigned) continue;
    logger.warn('paths of this upstream are accepted without a signature', {
      upstream: baseUrl(upstream.url),
    });
  }
  const { url, publicKeys } = running;
  if (config.logFormat === 'json') {
    logger.info('listening', { url, publicKeys, version: context.version });
    return;
  }
  const keys = publicKeys.join(' ');
  await write(
    context.stdout,
    `
Snowcap ${context.version} is listening on ${url}

  Public key   ${publicKeys.join('\n               ')}
  nix.conf     extra-substituters = ${url}
               extra-trusted-public-keys = ${keys}
  One command  nix build --option extra-substituters ${url} \\
                 --option extra-trusted-public-keys '${keys}' …

`,
  );
}
