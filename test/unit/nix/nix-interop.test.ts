import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatHash, parseHash } from '../../../src/nix/hash.ts';
import { contentAddressMatches } from '../../../src/nix/content-address.ts';
import { fingerprint, formatNarInfo, parseNarInfo } from '../../../src/nix/nar-info.ts';
import type { NarInfo } from '../../../src/nix/nar-info.ts';
import {
  createSigner,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  verifySignature,
} from '../../../src/nix/signing-key.ts';
import { checkedCommand } from '../../support/nix-command.ts';
import { createNixStore } from '../../support/nix-store.ts';
import type { NixStore } from '../../support/nix-store.ts';
import { skipReason } from '../../support/require.ts';

/** A leaf that is referred to, and a path that refers to it, to a source and to itself. */
const EXPRESSION = `
let
  run = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
  };
  leaf = run "leaf" "echo leaf > $out";
  text = builtins.toFile "text.txt" "a text";
in run "top" "echo \${leaf} \${text} $out > $out"
`;

/** The leaf as it was built, not its content-addressed copy. */
function inputAddressedLeaf(texts: ReadonlyMap<string, string>): readonly [base: string, text: string] {
  const leaf = [...texts].find(([base, text]) => base.endsWith('-leaf') && !text.includes('CA: '));
  if (leaf === undefined) throw new Error('There is no leaf');
  return leaf;
}

const missing = skipReason('nix', 'nix-store', 'nix-build', 'nix-instantiate');

describe.skipIf(missing !== null)(
  `the Nix that is installed${missing === null ? '' : ` (skipped: ${missing})`}`,
  () => {
    let place = '';
    let store: NixStore;
    let publicKeyText = '';
    let secretKeyText = '';
    /** What Nix wrote, by the base name of the store path. */
    let texts: ReadonlyMap<string, string> = new Map();
    let selfReferring = '';

    const run = (program: string, ...args: readonly string[]): Promise<string> =>
      checkedCommand(program, args, { env: store.environment() });

    beforeAll(async () => {
      place = await mkdtemp(join(tmpdir(), 'snowcap-formats-'));
      store = await createNixStore();
      const file = (name: string): string => join(place, name);
      await mkdir(file('source'));
      await writeFile(join(file('source'), 'hello'), 'hello\n');
      await writeFile(file('top.nix'), EXPRESSION);
      await writeFile(
        file('text.nix'),
        'let a = builtins.toFile "a" "x"; b = builtins.toFile "b" "y"; in builtins.toFile "c.txt" "${b} ${a}"',
      );
      await store.check('nix-store', ['--add', file('source')]);
      for (const algorithm of ['sha256', 'sha1', 'md5', 'sha512']) {
        await store.check('nix-store', ['--add-fixed', algorithm, join(file('source'), 'hello')]);
        await store.check('nix-store', ['--add-fixed', '--recursive', algorithm, file('source')]);
      }
      await run('nix-instantiate', '--eval', '--read-write-mode', file('text.nix'));
      const [top = ''] = await store.build(file('top.nix'));
      const rewritten = await store.check('nix', ['store', 'make-content-addressed', '--json', top]);
      selfReferring = /"(\/nix\/store\/[^"]*-top)"[^"]*\}/.exec(rewritten)?.[1] ?? '';
      await run('nix-store', '--generate-binary-cache-key', 'interop-1', file('secret'), file('public'));
      publicKeyText = await readFile(file('public'), 'utf8');
      secretKeyText = await readFile(file('secret'), 'utf8');

      texts = await copyAll('signed', `&secret-key=${file('secret')}`);
    });

    afterAll(async () => {
      await store?.remove();
      if (place !== '') await rm(place, { recursive: true, force: true });
    });

    async function copyAll(name: string, parameters: string): Promise<ReadonlyMap<string, string>> {
      const directory = join(place, name);
      await store.check('nix', ['copy', '--all', '--to', `file://${directory}?compression=xz${parameters}`]);
      const paths = [...(await store.validPaths()).keys()];
      return new Map(
        await Promise.all(
          paths.map(async (path): Promise<[string, string]> => {
            const base = path.slice('/nix/store/'.length);
            return [base, await readFile(join(directory, `${base.slice(0, 32)}.narinfo`), 'utf8')];
          }),
        ),
      );
    }

    it('writes narinfos that are read and written byte for byte', () => {
      expect(texts.size).toBeGreaterThanOrEqual(15);
      for (const text of texts.values()) expect(formatNarInfo(parseNarInfo(text))).toBe(text);
    });

    it('tells the same of each path as its narinfo does', async () => {
      for (const [path, valid] of await store.validPaths()) {
        const info = parseNarInfo(texts.get(path.slice('/nix/store/'.length)) ?? '');
        expect(info).toMatchObject({ storePath: path, narSize: valid.narSize, ca: valid.ca });
        expect(parseHash(info.narHash)).toEqual(parseHash(valid.narHash));
        expect(info.references.map((reference) => `/nix/store/${reference}`).toSorted()).toEqual(
          valid.references,
        );
      }
    });

    it('signs the fingerprint that is computed here, and its signature is the one made here', async () => {
      const key = parsePublicKey(publicKeyText);
      const signer = await createSigner(await parseSecretKey(secretKeyText));
      const keys = new Map([[formatPublicKey(key), key]]);
      for (const text of texts.values()) {
        const info = parseNarInfo(text);
        expect(info.signatures).toEqual([await signer.sign(fingerprint(info))]);
        expect(await verifySignature(fingerprint(info), info.signatures[0] ?? '', keys)).toBe(key);
      }
    });

    it('makes content addresses that match, of each kind, and leaves input-addressed paths without', async () => {
      const kinds = new Set<string>();
      const addressed: NarInfo[] = [];
      for (const text of texts.values()) {
        const info = parseNarInfo(text);
        expect(await contentAddressMatches(info)).toBe(info.ca !== null);
        if (info.ca === null) continue;
        addressed.push(info);
        kinds.add(info.ca.slice(0, info.ca.lastIndexOf(':')));
      }
      const algorithms = ['md5', 'sha1', 'sha256', 'sha512'];
      expect([...kinds].toSorted()).toEqual(
        [...algorithms.flatMap((name) => [`fixed:${name}`, `fixed:r:${name}`]), 'text:sha256'].toSorted(),
      );
      const withSelf = addressed.filter(({ references, storePath }) =>
        references.includes(storePath.slice(11)),
      );
      expect(withSelf.map(({ storePath }) => storePath)).toEqual([selfReferring]);
      expect(withSelf[0]?.references).toHaveLength(3);
      expect(
        addressed.some(({ ca, references }) => ca?.startsWith('text:') === true && references.length === 2),
      ).toBe(true);
    });

    it('takes paths that are signed here, with a key generated here', async () => {
      const key = await generateSecretKey('snowcap.example-1');
      const signer = await createSigner(key);
      const unsigned = await copyAll('unsigned', '');
      const [base, text] = inputAddressedLeaf(unsigned);
      const info = parseNarInfo(text);
      const narinfo = join(place, 'unsigned', `${base.slice(0, 32)}.narinfo`);
      const client = await createNixStore();
      try {
        const copy = async (signature: string): Promise<number | null> => {
          await writeFile(narinfo, formatNarInfo({ ...info, signatures: [signature] }));
          client.forgetAnswers();
          const options = { trustedPublicKeys: [formatPublicKey(key.publicKey)] };
          return (await client.copyFrom(`file://${join(place, 'unsigned')}`, [info.storePath], options)).code;
        };
        expect(await copy(await signer.sign(`${fingerprint(info)}x`))).not.toBe(0);
        expect(await copy(await signer.sign(fingerprint(info)))).toBe(0);
      } finally {
        await client.remove();
      }
    });

    it('reads the secret keys that are written here, and derives the same public key', async () => {
      const key = await generateSecretKey('snowcap.example-1');
      const file = join(place, 'own-secret');
      await writeFile(file, formatSecretKey(key));
      const derived = await checkedCommand(
        '/bin/sh',
        ['-c', `nix key convert-secret-to-public < "$0"`, file],
        {
          env: store.environment(),
        },
      );
      expect(derived).toBe(formatPublicKey(key.publicKey));
    });

    it('writes hashes of every length in nix32, base64 and SRI as they are written here', async () => {
      const sizes = { md5: 16, sha1: 20, sha256: 32, sha512: 64 } as const;
      for (const [algorithm, size] of Object.entries(sizes) as [keyof typeof sizes, number][]) {
        const digests = fc.sample(fc.uint8Array({ minLength: size, maxLength: size }), 8);
        const hashes = [...digests, new Uint8Array(size), new Uint8Array(size).fill(255)].map(
          (bytes) => ({ algorithm, bytes }) as const,
        );
        for (const [command, encoding] of [
          ['to-base32', 'nix32'],
          ['to-base64', 'base64'],
          ['to-sri', 'sri'],
        ] as const) {
          const given = hashes.map((hash) => formatHash(hash, 'hex').split(':')[1] ?? '');
          const printed = (await run('nix', 'hash', command, '--type', algorithm, ...given))
            .trim()
            .split('\n');
          const expected = hashes.map((hash) => formatHash(hash, encoding));
          expect(printed.map((text) => (encoding === 'sri' ? text : `${algorithm}:${text}`))).toEqual(
            expected,
          );
        }
      }
    });

    it('refuses what is refused here: narinfos cut short or with a bare References', async () => {
      const [base, text] = inputAddressedLeaf(texts);
      const directory = join(place, 'broken');
      await mkdir(directory);
      await writeFile(join(directory, 'nix-cache-info'), 'StoreDir: /nix/store\n');
      for (const broken of [
        text.slice(0, -1),
        text.replace('References: \n', 'References:\n'),
        text.replace('NarSize: ', 'NarSize: x'),
      ]) {
        expect(broken).not.toBe(text);
        expect(() => parseNarInfo(broken)).toThrow('Cannot parse narinfo');
        await writeFile(join(directory, `${base.slice(0, 32)}.narinfo`), broken);
        store.forgetAnswers();
        const result = await store.run('nix', [
          'path-info',
          '--store',
          `file://${directory}`,
          `/nix/store/${base}`,
        ]);
        expect(result.code).not.toBe(0);
      }
      await writeFile(join(directory, `${base.slice(0, 32)}.narinfo`), text);
      store.forgetAnswers();
      expect(
        await store.check('nix', ['path-info', '--store', `file://${directory}`, `/nix/store/${base}`]),
      ).toBe(`/nix/store/${base}\n`);
    });
  },
);
