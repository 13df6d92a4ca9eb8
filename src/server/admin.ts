import type { Context } from 'hono';
import type { AppEnv, AppOptions } from './env.ts';
import { answerError } from './errors.ts';

/**
 * Whether the request carries the token of an administrator: `Authorization: Bearer <token>`, or Basic with the token as
 * the password, which is what curl and Nix send out of a netrc. Tokens are known by their hashes alone, and compared in
 * a time that tells nothing (law 10).
 *
 * @returns null where it does; else the answer: 403 where there are no administrators, 401 else
 */
export async function refusedAdmin(
  c: Context<AppEnv>,
  { adminTokens = [] }: Pick<AppOptions, 'adminTokens'>,
): Promise<Response | null> {
  if (adminTokens.length === 0) {
    return answerError(c, 403, 'no_administrators', 'This cache has no SNOWCAP_ADMIN_TOKENS');
  }
  const token = tokenOf(c.req.header('authorization') ?? '');
  if (token !== null && (await isKnown(token, adminTokens))) return null;
  return answerError(c, 401, 'unauthorized', 'This takes the token of an administrator', {
    'WWW-Authenticate': 'Bearer realm="snowcap", Basic realm="snowcap"',
  });
}

/** The most of a token that is hashed, in characters. */
const MOST_TOKEN = 4096;

function tokenOf(authorization: string): string | null {
  const [, scheme = '', credentials = ''] = /^([A-Za-z]+) +(\S+)$/.exec(authorization) ?? [];
  if (credentials.length > MOST_TOKEN) return null;
  switch (scheme.toLowerCase()) {
    case 'bearer':
      return credentials;
    case 'basic': {
      const pair = decoded(credentials);
      const colon = pair.indexOf(':');
      return colon === -1 ? null : pair.slice(colon + 1);
    }
    default:
      return null;
  }
}

function decoded(base64: string): string {
  try {
    return atob(base64);
  } catch {
    return '';
  }
}

async function isKnown(token: string, hashes: readonly string[]): Promise<boolean> {
  const given = await hashToken(token);
  let known = 0;
  // All of them, whichever it is.
  for (const hash of hashes) known |= Number(equal(given, hash));
  return known === 1;
}

/** Compares texts of one length without an early end. */
function equal(left: string, right: string): boolean {
  if (left.length !== right.length) return false;
  let difference = 0;
  for (let at = 0; at < left.length; at += 1) difference |= left.charCodeAt(at) ^ right.charCodeAt(at);
  return difference === 0;
}

/** As SNOWCAP_ADMIN_TOKENS has it: `sha256:<64 hexadecimal digits>`. Tokens are random: no salt, no stretching. */
export async function hashToken(token: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(token));
  return `sha256:${[...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}
