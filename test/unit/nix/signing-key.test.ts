import { Buffer } from 'node:buffer';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeBase64 } from '../../../src/nix/base64.ts';
import { nobleEd25519, webCryptoEd25519 } from '../../../src/nix/ed25519.ts';
import type { Ed25519 } from '../../../src/nix/ed25519.ts';
import { FormatError } from '../../../src/nix/format-error.ts';
import {
  createSigner,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  verifySignature,
} from '../../../src/nix/signing-key.ts';
import type { PublicKey } from '../../../src/nix/signing-key.ts';

/** Made by `nix-store --generate-binary-cache-key test-1` of Nix 2.8. */
const SECRET =
  'test-1:6cirWQNQArt676Ywxa8bUjMeERAOb495/nslMaIr+q93qMAAxMN+Mjxmk0xpiM/AM9WGToydCxyP/46g7lwgNg==';
const PUBLIC = 'test-1:d6jAAMTDfjI8ZpNMaYjPwDPVhk6MnQscj/+OoO5cIDY=';

const keysOf = (...keys: readonly PublicKey[]): ReadonlyMap<string, PublicKey> =>
  new Map(keys.map((key) => [formatPublicKey(key), key]));

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error('Expected a failure');
}

describe('public keys', () => {
  it('come back from their text', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[!-9;-~]{1,40}$/),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (name, bytes) => {
          expect(parsePublicKey(formatPublicKey({ name, bytes }))).toEqual({ name, bytes });
        },
      ),
    );
  });

  it('may have white space around them, as in a file', () => {
    expect(formatPublicKey(parsePublicKey(`\n ${PUBLIC}\r\n`))).toBe(PUBLIC);
  });

  it.each([
    ['no text', ''],
    ['no name', PUBLIC.slice('test-1'.length)],
    ['no colon', PUBLIC.replace(':', '')],
    ['no bytes', 'test-1:'],
    ['31 bytes', `test-1:${encodeBase64(new Uint8Array(31))}`],
    ['33 bytes', `test-1:${encodeBase64(new Uint8Array(33))}`],
    ['the bytes of a secret key', SECRET],
    ['another encoding', `test-1:${'00'.repeat(32)}`],
    ['a space in the name', `a b:${PUBLIC.split(':')[1] ?? ''}`],
    ['a line feed in the name', `a\nb:${PUBLIC.split(':')[1] ?? ''}`],
    ['a letter beyond ASCII in the name', `ä:${PUBLIC.split(':')[1] ?? ''}`],
    ['two keys', `${PUBLIC} ${PUBLIC}`],
  ])('are refused with %s', (_, text) => {
    expect(() => parsePublicKey(text)).toThrow(FormatError);
  });
});

describe('secret keys', () => {
  it('made by Nix are read, written unchanged, and have the public key that Nix derives', async () => {
    const key = await parseSecretKey(`${SECRET}\n`);
    expect(formatSecretKey(key)).toBe(SECRET);
    expect(formatPublicKey(key.publicKey)).toBe(PUBLIC);
  });

  it('that are generated are new each time and come back from their text', async () => {
    const first = await generateSecretKey('cache.example.org-1');
    const second = await generateSecretKey('cache.example.org-1');
    expect(formatSecretKey(first)).not.toBe(formatSecretKey(second));
    const read = await parseSecretKey(formatSecretKey(first));
    expect(read.name).toBe('cache.example.org-1');
    expect(read.seed).toEqual(first.seed);
    expect(read.publicKey).toEqual(first.publicKey);
  });

  it.each(['', 'a:b', 'a b', 'a\n', 'ä'])('are not generated with the name %j', async (name) => {
    await expect(generateSecretKey(name)).rejects.toThrow(FormatError);
  });

  it('do not show their seed where a program prints them', async () => {
    const key = await parseSecretKey(SECRET);
    const seed = Buffer.from(key.seed);
    for (const text of [
      JSON.stringify(key),
      inspect(key, { depth: 9, showHidden: true }),
      JSON.stringify({ ...key }),
    ]) {
      expect(text).toContain('test-1');
      expect(text).not.toContain(seed.toString('base64').slice(0, 20));
      expect(text.replaceAll(/\s/g, '')).not.toContain([...seed].slice(0, 8).join(','));
      expect(text).not.toContain(`"0":${seed[0]}`);
    }
  });

  const [, encoded = ''] = SECRET.split(':');
  const bytes = Buffer.from(encoded, 'base64');
  const withOtherPublicHalf = Buffer.from(bytes);
  withOtherPublicHalf[40] = (withOtherPublicHalf[40] ?? 0) ^ 1;
  it.each([
    ['no text', ''],
    ['no colon', encoded],
    ['no name', `:${encoded}`],
    ['a space in the name', `my key:${encoded}`],
    ['no bytes', 'test-1:'],
    ['the seed alone', `test-1:${bytes.subarray(0, 32).toString('base64')}`],
    ['63 bytes', `test-1:${bytes.subarray(0, 63).toString('base64')}`],
    ['a character that is not base64', `test-1:${encoded.replace('A', '-')}`],
    ['the public half of another key', `test-1:${withOtherPublicHalf.toString('base64')}`],
    [
      'its halves in the wrong order',
      `test-1:${Buffer.concat([bytes.subarray(32), bytes.subarray(0, 32)]).toString('base64')}`,
    ],
  ])('are refused with %s, by an error without any part of the secret', async (_, text) => {
    const error = await failureOf(parseSecretKey(text));
    expect(error).toBeInstanceOf(FormatError);
    const shown = inspect(error, { showHidden: true });
    for (let at = 0; at + 8 <= encoded.length; at += 4)
      expect(shown).not.toContain(encoded.slice(at, at + 8));
  });
});

describe.each([webCryptoEd25519(), nobleEd25519()])('signatures by $implementation', (ed25519) => {
  it('bear the name of their key and are verified by it', async () => {
    const signer = await createSigner(await parseSecretKey(SECRET, ed25519), ed25519);
    const signature = await signer.sign('1;/nix/store/…;ß');
    expect(signature).toMatch(/^test-1:[A-Za-z0-9+/]{86}==$/);
    const key = parsePublicKey(PUBLIC);
    expect(await verifySignature('1;/nix/store/…;ß', signature, keysOf(key), ed25519)).toBe(key);
    expect(await verifySignature('1;/nix/store/…;s', signature, keysOf(key), ed25519)).toBeNull();
  });

  it('of the same message are the same', async () => {
    const signer = await createSigner(await parseSecretKey(SECRET, ed25519), ed25519);
    expect(await signer.sign('message')).toBe(await signer.sign('message'));
    expect(await signer.sign('message')).toBe(
      await (
        await createSigner(await parseSecretKey(SECRET, nobleEd25519()), nobleEd25519())
      ).sign('message'),
    );
  });

  it('are told apart where several keys share a name', async () => {
    const secrets = await Promise.all([1, 2, 3].map(() => generateSecretKey('shared', ed25519)));
    const keys = keysOf(...secrets.map((secret) => secret.publicKey));
    for (const secret of secrets) {
      const signature = await (await createSigner(secret, ed25519)).sign('message');
      expect(await verifySignature('message', signature, keys, ed25519)).toBe(secret.publicKey);
    }
    const stranger = await createSigner(await generateSecretKey('shared', ed25519), ed25519);
    expect(await verifySignature('message', await stranger.sign('message'), keys, ed25519)).toBeNull();
  });

  it('count for the name that they bear only', async () => {
    const secret = await parseSecretKey(SECRET, ed25519);
    const signature = await (await createSigner(secret, ed25519)).sign('message');
    const renamed = { name: 'other-1', bytes: secret.publicKey.bytes };
    expect(await verifySignature('message', signature, keysOf(renamed), ed25519)).toBeNull();
    const asOther = signature.replace('test-1', 'other-1');
    expect(await verifySignature('message', asOther, keysOf(secret.publicKey), ed25519)).toBeNull();
    expect(await verifySignature('message', asOther, keysOf(secret.publicKey, renamed), ed25519)).toBe(
      renamed,
    );
  });

  it.each([
    '',
    'test-1',
    ':',
    'test-1:',
    ':AAAA',
    'test-1:AAAA',
    'test-1:!!',
    `test-1:${'A'.repeat(88)}`,
    `test-1:${'A'.repeat(84)}==`,
  ])('that are malformed verify never: %j', async (signature) => {
    expect(await verifySignature('message', signature, keysOf(parsePublicKey(PUBLIC)), ed25519)).toBeNull();
  });
});

describe('verification', () => {
  it('imports a key once, however many signatures it checks', async () => {
    let imports = 0;
    const real = webCryptoEd25519();
    const counting: Ed25519 = {
      ...real,
      verifier: (bytes) => {
        imports += 1;
        return real.verifier(bytes);
      },
    };
    const key = parsePublicKey(PUBLIC);
    const signer = await createSigner(await parseSecretKey(SECRET));
    for (const message of ['a', 'b', 'c']) {
      expect(await verifySignature(message, await signer.sign(message), keysOf(key), counting)).toBe(key);
    }
    expect(imports).toBe(1);
  });

  it('tries an import again that failed for another reason than the key', async () => {
    let failures = 1;
    const real = webCryptoEd25519();
    const flaky: Ed25519 = {
      ...real,
      verifier: (bytes) => (failures-- > 0 ? Promise.reject(new Error('busy')) : real.verifier(bytes)),
    };
    const key = parsePublicKey(PUBLIC);
    const signature = await (await createSigner(await parseSecretKey(SECRET))).sign('message');
    await expect(verifySignature('message', signature, keysOf(key), flaky)).rejects.toThrow('busy');
    expect(await verifySignature('message', signature, keysOf(key), flaky)).toBe(key);
  });
});
