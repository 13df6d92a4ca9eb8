import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import {
  contentAddressBindsNarHash,
  contentAddressMatches,
  parseContentAddress,
} from '../../../src/nix/content-address.ts';
import type { ContentAddressedPath } from '../../../src/nix/content-address.ts';
import { FormatError } from '../../../src/nix/format-error.ts';

const NAR = '19l59z9nbs59axnhw6iqsz5bdagqb22kf0dp2zhkiq5m4b6k5247';
const SHA1 = '32m7qspxj7ijzi43ncb9amfaqld015vw';
const FILE_NAR = 'sha256:1xmr8jicvzszfzpz46g37mlpvbzjl2wpwvl2b05psipssyp1sm8h';

/** Paths as Nix 2.8 made them; nix-interop.test.ts asks the Nix that is installed. */
const PATHS: Readonly<Record<string, ContentAddressedPath>> = {
  'a directory by its NAR in SHA-256': {
    storePath: '/nix/store/ikgcwncx2cinpipyb5ig5ipkb4m4vf77-src',
    ca: `fixed:r:sha256:${NAR}`,
    references: [],
    narHash: `sha256:${NAR}`,
  },
  'a directory by its NAR in SHA-1': {
    storePath: '/nix/store/k6nsn7h3ik0pnlchxr2lh0ilxdbzz9l7-src',
    ca: `fixed:r:sha1:${SHA1}`,
    references: [],
    narHash: `sha256:${NAR}`,
  },
  'a file in SHA-256': {
    storePath: '/nix/store/hrvjkyf8i9yx8dmgfbqlsr7xlxa6wmfw-a',
    ca: 'fixed:sha256:1r3v22qkypccqifzbww5lrn6hf1chi23m6zzkyvb8bvg457nxslq',
    references: [],
    narHash: FILE_NAR,
  },
  'a file in SHA-1': {
    storePath: '/nix/store/4hivvj5k2gza6kvh7ii2m6chw3fmg113-a',
    ca: 'fixed:sha1:fd540npwk7x370s4s2jzpx74wf365jjm',
    references: [],
    narHash: FILE_NAR,
  },
  'a text with a reference': {
    storePath: '/nix/store/878a25957h4y178v2myvva4kf0602p4g-t.txt',
    ca: 'text:sha256:1d3dzk31kdff1glgqfzk1dar3wn160n1f74bz4d946ykydchymi9',
    references: ['wkb38adhw4i46sxpcl84c1g6wxsylyag-dep'],
    narHash: 'sha256:1bv6dk5r2vljv5s32vip6dmrw3m673560wlcawnh5l584np0j9xl',
  },
  'a path with a self-reference': {
    storePath: '/nix/store/i5ggv3b4ab527zy9djm9331kcbgl60rg-top',
    ca: 'fixed:r:sha256:0hipnhcqmadl8jdfivjp7azszi88kbv45f9wkldamgd6wg7z3jjp',
    references: ['i5ggv3b4ab527zy9djm9331kcbgl60rg-top', 'k0bq3s4hdvxal217l04jr24n8jm5l29g-dep'],
    narHash: 'sha256:1j7l64p4s61rdiaybwvjj497cbbgmyb6s8s1pva5kp1x4yixlz21',
  },
};

const OTHER = 'z4asv3j07d89ywjf8fxkn7sg6mf5s9q5-dep';

describe.each(Object.entries(PATHS))('%s', (_, path) => {
  it('follows from its content address', async () => {
    expect(await contentAddressMatches(path)).toBe(true);
  });

  it('follows from it whatever the order and repetition of its references', async () => {
    const references = [...path.references, ...path.references].toReversed();
    expect(await contentAddressMatches({ ...path, references })).toBe(true);
  });

  it('follows from its hash in hex or base64 too', async () => {
    const address = path.ca === null ? null : parseContentAddress(path.ca);
    const hex = Buffer.from(address?.hash.bytes ?? []).toString('hex');
    const ca = path.ca?.replace(/[^:]*$/, hex) ?? null;
    expect(await contentAddressMatches({ ...path, ca })).toBe(true);
  });

  const changes: readonly (readonly [string, Partial<ContentAddressedPath>])[] = [
    ['another name', { storePath: `${path.storePath}x` }],
    ['another hash part', { storePath: path.storePath.replace(/[0-9a-z]{32}/, OTHER.slice(0, 32)) }],
    ['another store directory', { storePath: path.storePath.replace('/nix', '/gnu') }],
    ['another reference', { references: [...path.references.slice(1), OTHER] }],
    ['one reference more', { references: [...path.references, OTHER] }],
    ['another content hash', { ca: path.ca?.replace(/.$/, (last) => (last === '1' ? '2' : '1')) ?? null }],
    ['no content address', { ca: null }],
    ['a malformed content address', { ca: `${path.ca}0` }],
    ['a content address of unknown kind', { ca: `future:${path.ca}` }],
  ];
  it.each(changes)('does not follow with %s', async (_change, change) => {
    expect(await contentAddressMatches({ ...path, ...change })).toBe(false);
  });
});

describe('a content address', () => {
  const directory = PATHS['a directory by its NAR in SHA-256'];
  const self = PATHS['a path with a self-reference'];
  const text = PATHS['a text with a reference'];
  if (directory === undefined || self === undefined || text === undefined)
    throw new Error('A path is missing');

  it('of a NAR in SHA-256 must be the NarHash too', async () => {
    expect(await contentAddressMatches({ ...directory, narHash: FILE_NAR })).toBe(false);
  });

  it('with a self-reference cannot be compared with the NarHash', async () => {
    expect(await contentAddressMatches({ ...self, narHash: FILE_NAR })).toBe(true);
  });

  it('binds the NarHash only where it is the same hash', () => {
    const binding = Object.entries(PATHS).filter(([, path]) => contentAddressBindsNarHash(path));
    expect(binding.map(([name]) => name)).toEqual(['a directory by its NAR in SHA-256']);
    expect(contentAddressBindsNarHash({ ...directory, narHash: FILE_NAR })).toBe(false);
    expect(
      contentAddressBindsNarHash({ ...directory, references: ['ikgcwncx2cinpipyb5ig5ipkb4m4vf77-src'] }),
    ).toBe(false);
    expect(contentAddressBindsNarHash({ ...directory, ca: null })).toBe(false);
    expect(contentAddressBindsNarHash({ ...directory, ca: 'fixed:r:sha256:x' })).toBe(false);
  });

  it('does not match without its self-reference', async () => {
    const narHash = self.ca?.slice('fixed:r:'.length) ?? '';
    expect(await contentAddressMatches({ ...self, references: self.references.slice(1), narHash })).toBe(
      false,
    );
  });

  it('of a text allows no self-reference', async () => {
    const own = text.storePath.slice('/nix/store/'.length);
    expect(await contentAddressMatches({ ...text, references: [own, ...text.references] })).toBe(false);
  });

  it('of a kind that a later Nix may bring is no error and matches nothing', async () => {
    for (const ca of [`fixed:git:sha1:${SHA1}`, `fixed:blob:sha256:${NAR}`, `later:x:${NAR}`]) {
      expect(parseContentAddress(ca)).toBeNull();
      expect(await contentAddressMatches({ ...directory, ca })).toBe(false);
    }
  });

  it.each([
    '',
    'fixed',
    ':sha256',
    'fixed:',
    'fixed:r:',
    'fixed:r',
    `fixed:${NAR}`,
    `fixed::sha256:${NAR}`,
    `fixed:md4:${NAR}`,
    `text:r:sha256:${NAR}`,
    `text:sha256-${NAR}`,
    'fixed:r:sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=',
    `fixed:r:sha256:${NAR} `,
    `fixed:r:sha256:${NAR}\n`,
    `fixed:r:sha1:${NAR}`,
  ])('is refused in the form %j', (ca) => {
    expect(() => parseContentAddress(ca)).toThrow(FormatError);
    expect(() => parseContentAddress(ca)).toThrow(expect.objectContaining({ field: 'CA', value: ca }));
  });
});
