import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  createSigner,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseSecretKey,
} from '../src/nix/signing-key.ts';

/**
 * Runs the Worker on this machine, with a local R2, D1 and queue below `.wrangler`: needs no account, and no network but
 * that to the upstreams. Words are passed on to `wrangler dev`.
 */
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const WRANGLER = fileURLToPath(new URL('../node_modules/wrangler/bin/wrangler.js', import.meta.url));
const SECRETS = fileURLToPath(new URL('../.dev.vars', import.meta.url));

// No prompts, nothing is sent to anybody, and nobody is asked where this machine is.
const env = {
  ...process.env,
  CI: 'true',
  WRANGLER_SEND_METRICS: 'false',
  CLOUDFLARE_CF_FETCH_ENABLED: 'false',
};

/** Runs wrangler to its end. @returns its exit code */
function wrangler(words: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [WRANGLER, ...words], { cwd: ROOT, env, stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => resolve(code ?? 1));
  });
}

/** The signing key of this folder, made at the first run. */
async function secretKey(): Promise<string> {
  const known = existsSync(SECRETS) ? readFileSync(SECRETS, 'utf8') : '';
  const found = /^SNOWCAP_SECRET_KEY="?([^"\n]+)"?$/m.exec(known)?.[1];
  if (found !== undefined) return found;
  const made = formatSecretKey(await generateSecretKey('snowcap-dev-1'));
  writeFileSync(SECRETS, `${known}SNOWCAP_SECRET_KEY="${made}"\n`, { mode: 0o600 });
  return made;
}

/** Waits until it answers, then says how it is used. */
async function announce(url: string, publicKey: string): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const up = await fetch(`${url}/nix-cache-info`).catch(() => null);
    if (up?.ok === true) break;
  }
  process.stdout.write(`
Snowcap is listening on ${url}, as a Worker

  Public key   ${publicKey}
  nix.conf     extra-substituters = ${url}
               extra-trusted-public-keys = ${publicKey}
  State        .wrangler/state (remove it to begin anew); the key is in .dev.vars

`);
}

const { publicKey } = await createSigner(await parseSecretKey(await secretKey()));
const migrated = await wrangler(['d1', 'migrations', 'apply', 'INDEX', '--local']);
if (migrated !== 0) process.exit(migrated);
const words = process.argv.slice(2);
const port = words[words.indexOf('--port') + 1] ?? '8787';
const at = words.includes('--port') ? words : ['--port', '8787', ...words];
announce(`http://127.0.0.1:${words.includes('--port') ? port : '8787'}`, formatPublicKey(publicKey)).catch(
  () => undefined,
);
process.exit(await wrangler(['dev', '--ip', '127.0.0.1', ...at]));
