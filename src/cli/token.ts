import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { hashToken } from '../server/admin.ts';
import { type CliContext, write } from './context.ts';

/** Bytes of a token: nobody guesses it. */
const BYTES = 32;

/** `snowcap token generate` */
export function registerToken(program: Command, context: CliContext): void {
  program
    .command('token')
    .description('tokens for those who may change the cache over HTTP')
    .command('generate')
    .description('print a new token, to be kept secret, and its hash, for SNOWCAP_ADMIN_TOKENS')
    .action(async () => {
      const token = `snowcap_${randomBytes(BYTES).toString('base64url')}`;
      await write(context.stdout, `token  ${token}\nhash   ${await hashToken(token)}\n`);
    });
}
