import { readNar } from '../nar/reader.ts';
import { contentAddressBindsNarHash, contentAddressMatches } from '../nix/content-address.ts';
import { FormatError } from '../nix/format-error.ts';
import { formatHash, parseHash } from '../nix/hash.ts';
import { fingerprint } from '../nix/nar-info.ts';
import type { NarInfo } from '../nix/nar-info.ts';
import { formatPublicKey, verifySignature } from '../nix/signing-key.ts';
import type { PublicKey } from '../nix/signing-key.ts';
import { write } from './context.ts';
import { Failure, UsageFailure } from './failure.ts';
import type { NarCommandContext } from './nar-context.ts';
import { openNar } from './nar-read.ts';
import { differences } from './nar-source.ts';

/**
 * Reads a NAR to its end, prints what it is, and compares it with what it should be: the hash given, and what
 * its narinfo says where there is one, whose signature is checked against the trusted keys.
 *
 * @param expected a NarHash in any form; null for none
 * @throws Failure with everything that is wrong; NarError where the NAR is malformed
 */
export async function verifyNar(
  place: string,
  expected: string | null,
  context: NarCommandContext,
): Promise<void> {
  const expectedHash = expected === null ? null : readHash(expected);
  const source = await openNar(place, context);
  let entries = 0;
  for await (const event of readNar(source.nar)) if (event.kind !== 'directory-end') entries += 1;

  const measure = source.measure();
  const { info } = source;
  const trust = info === null ? NOT_ASKED : await trustOf(info, (await context.config()).trustedPublicKeys);
  const lines = [
    ...(info === null ? [] : [`StorePath: ${info.storePath}`]),
    `Compression: ${source.compression}`,
    `FileHash: ${measure.fileHash}`,
    `FileSize: ${measure.fileSize}`,
    `NarHash: ${measure.narHash}`,
    `NarSize: ${measure.narSize}`,
    `Entries: ${entries}`,
    ...lineIf('Trusted: ', trust.by),
  ];
  await write(context.stdout, `${lines.join('\n')}\n`);

  const wrong = [
    ...(info === null ? [] : differences(info, measure)),
    ...(expectedHash === null || expectedHash === measure.narHash
      ? []
      : [`NarHash is ${measure.narHash}, but ${expectedHash} was expected`]),
    ...lineIf('', trust.problem),
  ];
  if (wrong.length > 0) throw new Failure(`${source.label} is refused: ${wrong.join('; ')}`);
}

function readHash(text: string): string {
  try {
    const hash = parseHash(text, 'sha256');
    if (hash.algorithm === 'sha256') return formatHash(hash, 'nix32');
    throw new UsageFailure(`Cannot compare a NarHash of ${hash.algorithm}: expected sha256`);
  } catch (error) {
    if (error instanceof FormatError) throw new UsageFailure(error.message, { cause: error });
    throw error;
  }
}

interface Trust {
  /** What justifies trust; null where nothing does. */
  readonly by: string | null;
  readonly problem: string | null;
}

/** Without a narinfo there is nothing to be trusted. */
const NOT_ASKED: Trust = { by: null, problem: null };

function lineIf(prefix: string, text: string | null): readonly string[] {
  return text === null ? [] : [prefix + text];
}

async function trustOf(info: NarInfo, trusted: readonly PublicKey[]): Promise<Trust> {
  const keys = new Map(trusted.map((key) => [formatPublicKey(key), key]));
  const signed = fingerprint(info);
  for (const signature of info.signatures) {
    const key = await verifySignature(signed, signature, keys);
    if (key !== null) return { by: `signature by ${formatPublicKey(key)}`, problem: null };
  }
  if (contentAddressBindsNarHash(info) && (await contentAddressMatches(info))) {
    return { by: 'its content address, which fixes the NarHash', problem: null };
  }
  const names = info.signatures.map((signature) => signature.replace(/:.*$/s, ''));
  const by = names.length === 0 ? 'it has none' : `it has those of ${names.join(', ')}`;
  return { by: null, problem: `no signature of the narinfo is by a trusted key (${by})` };
}
