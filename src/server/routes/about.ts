import type { Context } from 'hono';
import { answerBytes } from '../answer.ts';
import type { AppEnv, AppOptions } from '../env.ts';

/** `GET /nix-cache-info`: always there, or clients give the cache up. */
export function cacheInfoRoute(c: Context<AppEnv>, { cache }: AppOptions): Response {
  note(c, 'cache-info');
  const headers = { 'Content-Type': 'text/x-nix-cache-info', 'Cache-Control': 'public, max-age=3600' };
  return answerBytes(c, 200, headers, cache.cacheInfo);
}

/** `GET /pubkey`: one public key a line, as `trusted-public-keys` takes them. */
export function publicKeyRoute(c: Context<AppEnv>, { cache }: AppOptions): Response {
  note(c, 'pubkey');
  const headers = { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'public, max-age=3600' };
  return answerBytes(c, 200, headers, cache.publicKeys.map((key) => `${key}\n`).join(''));
}

/** `GET /`: what this is and how a client is set up; a page for browsers, JSON for programs. */
export function homeRoute(c: Context<AppEnv>, { cache, version }: AppOptions): Response {
  note(c, 'home');
  const { origin } = new URL(c.req.url);
  const about = {
    name: 'snowcap',
    description: 'A size-bounded, signing, pull-through binary cache for Nix',
    version,
    url: origin,
    publicKeys: cache.publicKeys,
    upstreams: cache.upstreams().map(({ url, priority, circuit }) => ({ url, priority, circuit })),
    nixConf: {
      'extra-substituters': origin,
      'extra-trusted-public-keys': cache.publicKeys.join(' '),
    },
  };
  if (c.req.header('accept')?.includes('text/html') === true) {
    const headers = {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-store',
      Vary: 'Accept',
    };
    return answerBytes(c, 200, headers, page(about));
  }
  const headers = { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', Vary: 'Accept' };
  return answerBytes(c, 200, headers, `${JSON.stringify(about, null, 2)}\n`);
}

function page(about: {
  readonly description: string;
  readonly version: string;
  readonly url: string;
  readonly publicKeys: readonly string[];
  readonly upstreams: readonly { readonly url: string; readonly circuit: string }[];
}): string {
  const url = escape(about.url);
  const keys = escape(about.publicKeys.join(' '));
  const upstreams = about.upstreams.map(
    ({ url, circuit }) => `<li>${escape(url)}${circuit === 'closed' ? '' : ' (not answering)'}</li>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Snowcap</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
  pre { background: #f2f5f8; padding: 1rem; overflow-x: auto; border-radius: 6px; }
  @media (prefers-color-scheme: dark) { body { background: #14181c; color: #dde } pre { background: #222a31 } }
</style>
<h1>Snowcap</h1>
<p>${escape(about.description)}, version ${escape(about.version)}.</p>
<h2>Use it</h2>
<p>In <code>nix.conf</code>:</p>
<pre>extra-substituters = ${url}
extra-trusted-public-keys = ${keys}</pre>
<p>On NixOS:</p>
<pre>nix.settings = {
  extra-substituters = [ "${url}" ];
  extra-trusted-public-keys = [ ${about.publicKeys.map((key) => `"${escape(key)}"`).join(' ')} ];
};</pre>
<p>For one command:</p>
<pre>nix build --option extra-substituters ${url} --option extra-trusted-public-keys "${keys}" …</pre>
<h2>Upstreams</h2>
<ul>${upstreams.join('') || '<li>none</li>'}</ul>
<p><a href="/pubkey">Public key</a> · <a href="/nix-cache-info">nix-cache-info</a> · <a href="/readyz">State</a></p>
</html>
`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0) ?? 0};`);
}

function note(c: Context<AppEnv>, route: string): void {
  c.get('note').route = route;
  c.get('note').outcome = 'answered';
}
