import { Command } from 'commander';
import { registerConfig } from './config.ts';
import type { CliContext } from './context.ts';
import { registerDelete } from './delete.ts';
import { registerEvict } from './evict.ts';
import { registerKey } from './key.ts';
import { registerMigrateStorage } from './migrate-storage.ts';
import { registerMigrate } from './migrate.ts';
import { registerNar } from './nar.ts';
import { registerPins } from './pins.ts';
import { registerReindex } from './reindex.ts';
import { registerResign } from './resign.ts';
import { registerServe } from './serve.ts';
import { registerToken } from './token.ts';
import { registerVerify } from './verify.ts';

/**
 * The commands of `snowcap`. What a command needs is imported when it runs, so that none waits for the
 * libraries of another.
 */
export function createProgram(context: CliContext): Command {
  const program = new Command('snowcap')
    .description('A size-bounded, signing, pull-through binary cache for Nix')
    .version(context.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .showHelpAfterError('(--help shows what there is)')
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
    })
    .exitOverride();
  registerServe(program, context);
  registerKey(program, context);
  registerConfig(program, context);
  registerMigrate(program, context);
  registerPins(program, context);
  registerDelete(program, context);
  registerToken(program, context);
  registerEvict(program, context);
  registerVerify(program, context);
  registerReindex(program, context);
  registerMigrateStorage(program, context);
  registerResign(program, context);
  registerNar(program, context);
  return program;
}
