import { Option } from 'commander';
import type { Command } from 'commander';
import type { CliContext } from './context.ts';
import type { NarCommandContext } from './nar-context.ts';
import type { Remote } from './place.ts';
import { configOf } from './settings-flags.ts';

const SOURCE = 'file or http(s) URL of a NAR, or of a narinfo whose NAR is then read and checked';

/** `snowcap nar ls|cat|verify` */
export function registerNar(program: Command, context: CliContext): void {
  const nar = program.command('nar').description('look into NARs');

  source(nar.command('ls'))
    .description('list what is in a NAR')
    .argument('[path]', 'what to list, from the root of the NAR', '/')
    .option('-R, --recursive', 'list directories and what is in them')
    .option('-l, --long', 'show types and sizes')
    .option('--json', 'print the whole listing as in the .ls files of caches')
    .action(
      (
        place: string,
        path: string,
        options: { recursive?: true; long?: true; json?: true },
        command: Command,
      ) =>
        run(context, command, async (own) => {
          const { listNar } = await import('./nar-ls.ts');
          await listNar(place, path, { recursive: false, long: false, json: false, ...options }, own);
        }),
    );

  source(nar.command('cat'))
    .description('print a file in a NAR')
    .argument('<path>', 'which file, from the root of the NAR')
    .action((place: string, path: string, _options: unknown, command: Command) =>
      run(context, command, async (own) => {
        const { printNarFile } = await import('./nar-cat.ts');
        await printNarFile(place, path, own);
      }),
    );

  source(nar.command('verify'))
    .description('check that a NAR is whole and well-formed, and print its hash and size')
    .option('--nar-hash <hash>', 'the NarHash that it must have, in any form that Nix writes')
    .action((place: string, options: { narHash?: string }, command: Command) =>
      run(context, command, async (own) => {
        const { verifyNar } = await import('./nar-verify.ts');
        await verifyNar(place, options.narHash ?? null, own);
      }),
    );
}

function source(command: Command): Command {
  return command
    .argument('<source>', SOURCE)
    .addOption(
      new Option(
        '--compression <name>',
        'how it is compressed, where its first bytes and its name do not tell',
      ),
    );
}

/** Runs a command and closes what it has opened, whatever becomes of it. */
async function run(
  context: CliContext,
  command: Command,
  work: (own: NarCommandContext) => Promise<void>,
): Promise<void> {
  const compression: unknown = command.getOptionValue('compression');
  const config = once(async () => (await configOf(command, context, { keyless: true })).config);
  let opened: Remote | null = null;
  const remote = once(async () => {
    const { createRemote } = await import('./remote.ts');
    opened = await createRemote(await config(), context.version);
    return opened;
  });
  try {
    await work({
      ...context,
      compression: typeof compression === 'string' ? compression : null,
      config,
      remote,
    });
  } finally {
    await closeRemote(opened);
  }
}

async function closeRemote(remote: Remote | null): Promise<void> {
  await remote?.transport.close();
}

function once<Value>(make: () => Promise<Value>): () => Promise<Value> {
  let made: Promise<Value> | undefined;
  return () => (made ??= make());
}
