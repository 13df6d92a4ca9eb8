import { hostname } from 'node:os';
import { CommanderError } from 'commander';
import packageDescription from '../../package.json' with { type: 'json' };
import { redactText } from '../telemetry/redact.ts';
import type { CliContext } from './context.ts';
import { Failure, UsageFailure, explain } from './failure.ts';
import { createProgram } from './program.ts';
import { registerQuickResolve } from './quick-resolve.ts';

/** Ended by the shell's convention for a broken pipe. */
const BROKEN_PIPE = 128 + 13;

/**
 * Runs one command.
 *
 * @returns the exit code: 0 all is well, 1 something is wrong, 2 it was called wrongly; others are those of a `Failure`
 */
async function main(words: readonly string[], context: CliContext): Promise<number> {
  try {
    await createProgram(context).parseAsync([...words], { from: 'user' });
    return 0;
  } catch (error) {
    // The library has printed its own messages already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (isBrokenPipe(error)) return BROKEN_PIPE;
    context.stderr.write(`snowcap: ${redactText(describe(error))}\n`);
    if (error instanceof UsageFailure) return 2;
    return error instanceof Failure ? error.exitCode : 1;
  }
}

/** Expected failures show their message; of others the stack tells where to look. */
function describe(error: unknown): string {
  const expected = error instanceof Failure || error instanceof UsageFailure || !isProgrammingError(error);
  return expected ? explain(error) : (error.stack ?? error.message);
}

function isProgrammingError(error: unknown): error is Error {
  return error instanceof TypeError || error instanceof ReferenceError || error instanceof RangeError;
}

function isBrokenPipe(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EPIPE';
}

// Who reads may stop early, as `snowcap nar cat … | head` does; that is no failure to speak of.
process.stdout.on('error', (error) => {
  if (isBrokenPipe(error)) process.exit(BROKEN_PIPE);
  throw error;
});

registerQuickResolve();

process.exitCode = await main(process.argv.slice(2), {
  environment: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  hostname: hostname(),
  version: packageDescription.version,
});
