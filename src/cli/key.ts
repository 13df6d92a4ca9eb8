import type { Command } from 'commander';
import type { SecretKey } from '../nix/signing-key.ts';
import { write } from './context.ts';
import type { CliContext } from './context.ts';
import { Failure, UsageFailure, explain } from './failure.ts';
import { configOf } from './settings-flags.ts';

/** More than any number of keys that somebody would give. */
const MOST_BYTES = 1024 * 1024;

/** `snowcap key generate|public` */
export function registerKey(program: Command, context: CliContext): void {
  const key = program.command('key').description('make and show signing keys');
  key
    .command('generate')
    .description('print a new secret key, as "nix key generate-secret" does')
    .argument('<name>', 'name of the key, as cache.example.org-1')
    .action((name: string) => generate(name, context));
  key
    .command('public')
    .description('print the public keys that belong to secret keys')
    .argument(
      '[file]',
      'file with secret keys, "-" for the standard input; without it, what is piped in, else the configured keys',
    )
    .action((file: string | undefined, _options: unknown, command: Command) => show(file, command, context));
}

async function generate(name: string, context: CliContext): Promise<void> {
  const { formatSecretKey, generateSecretKey } = await import('../nix/signing-key.ts');
  const { FormatError } = await import('../nix/format-error.ts');
  try {
    await write(context.stdout, `${formatSecretKey(await generateSecretKey(name))}\n`);
  } catch (error) {
    if (error instanceof FormatError) throw new UsageFailure(error.message, { cause: error });
    throw error;
  }
}

async function show(file: string | undefined, command: Command, context: CliContext): Promise<void> {
  const { formatPublicKey } = await import('../nix/signing-key.ts');
  const piped = file === '-' || (file === undefined && context.stdin.isTTY !== true);
  const text = piped ? await readAll(context) : '';
  let keys: readonly SecretKey[];
  if (file !== undefined && file !== '-') keys = await readKeyFile(file);
  else if (file === '-' || text.trim() !== '') keys = await parseKeys(text, 'the standard input');
  else keys = await configuredKeys(command, context);
  await write(context.stdout, keys.map((key) => `${formatPublicKey(key.publicKey)}\n`).join(''));
}

async function configuredKeys(command: Command, context: CliContext): Promise<readonly SecretKey[]> {
  const { secretKeys } = (await configOf(command, context)).config;
  if (secretKeys.kind === 'given') return secretKeys.keys;
  if (secretKeys.kind === 'missing') throw new Failure('There is no secret key: set SNOWCAP_SECRET_KEY');
  try {
    return await readKeyFile(secretKeys.path);
  } catch (error) {
    if (secretKeys.kind !== 'generated' || !isMissing(error)) throw error;
    throw new Failure(
      `There is no secret key yet: "snowcap serve" makes ${JSON.stringify(secretKeys.path)} when it starts`,
    );
  }
}

async function readKeyFile(path: string): Promise<readonly SecretKey[]> {
  const { readFile } = await import('node:fs/promises');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new Failure(`Cannot read the secret keys in ${JSON.stringify(path)}`, { cause });
  }
  return parseKeys(text, JSON.stringify(path));
}

async function parseKeys(text: string, where: string): Promise<readonly SecretKey[]> {
  const { parseSecretKey } = await import('../nix/signing-key.ts');
  const words = text.split(/\s+/).filter((word) => word !== '');
  if (words.length === 0) throw new Failure(`There is no secret key in ${where}`);
  try {
    return await Promise.all(words.map((word) => parseSecretKey(word)));
  } catch (cause) {
    throw new Failure(`There is something else than secret keys in ${where}: ${explain(cause)}`);
  }
}

async function readAll(context: CliContext): Promise<string> {
  const { collect } = await import('../stream/byte-stream.ts');
  return new TextDecoder().decode(await collect(context.stdin, MOST_BYTES, 'The standard input'));
}

function isMissing(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
}
