import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeNix32 } from '../../../src/nix/base32.ts';
import { FormatError } from '../../../src/nix/format-error.ts';
import { fingerprint, formatNarInfo, NAR_INFO_SIZE_LIMIT, parseNarInfo } from '../../../src/nix/nar-info.ts';
import type { NarInfo } from '../../../src/nix/nar-info.ts';
import { parsePublicKey, verifySignature } from '../../../src/nix/signing-key.ts';

/** A narinfo of cache.nixos.org. */
const CURL = `StorePath: /nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin
URL: nar/05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56.nar.xz
Compression: xz
FileHash: sha256:05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56
FileSize: 68852
NarHash: sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0
NarSize: 196040
References: 0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0 6w8g7njm4mck5dmjxws0z1xnrxvl81xa-glibc-2.34-115 j5jxw3iy7bbz4a57fh9g2xm2gxmyal8h-zlib-1.2.12 yxvjs9drzsphm9pcf42a4byzj1kb9m7k-openssl-1.1.1n
Deriver: 5rwxzi7pal3qhpsyfc16gzkh939q1np6-curl-7.82.0.drv
Sig: cache.nixos.org-1:TsTTb3WGTZKphvYdBHXwo6weVILmTytUjLB+vcX89fOjjRicCHmKA4RCPMVLkj6TMJ4GMX3HPVWRdD1hkeKZBQ==
`;
const OFFICIAL_KEY = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';

const HASH = 'sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0';
const A = '0jqd0rlxzra1rs38rdxl43yh6rxchgc6-a';
const B = '6w8g7njm4mck5dmjxws0z1xnrxvl81xa-b';
const SELF = 'syd87l2rxw8cbsxmxl853h0r6pdwhwjr-self';

/** The fewest fields that a narinfo can have. */
const LEAST: Readonly<Record<string, string>> = {
  StorePath: `/nix/store/${SELF}`,
  URL: 'nar/x.nar',
  NarHash: HASH,
  NarSize: '1',
};

function textOf(fields: Readonly<Record<string, string | null>>): string {
  return Object.entries({ ...LEAST, ...fields })
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
}

describe('a narinfo of cache.nixos.org', () => {
  it('is read with all its fields and written byte for byte', () => {
    const info = parseNarInfo(CURL);
    expect(info).toMatchObject({
      storePath: '/nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin',
      compression: 'xz',
      fileSize: 68852,
      narSize: 196040,
      deriver: '5rwxzi7pal3qhpsyfc16gzkh939q1np6-curl-7.82.0.drv',
      ca: null,
      extra: [],
    });
    expect(info.references).toHaveLength(4);
    expect(formatNarInfo(info)).toBe(CURL);
  });

  it('has a fingerprint that the key of cache.nixos.org signed', async () => {
    const info = parseNarInfo(CURL);
    const key = parsePublicKey(OFFICIAL_KEY);
    const [signature = ''] = info.signatures;
    expect(await verifySignature(fingerprint(info), signature, new Map([[OFFICIAL_KEY, key]]))).toBe(key);
  });

  it('keeps its fingerprint whatever the order and repetition of its references, and its encoding', () => {
    const info = parseNarInfo(CURL);
    const expected = fingerprint(info);
    expect(fingerprint({ ...info, references: info.references.toReversed() })).toBe(expected);
    expect(fingerprint({ ...info, references: [...info.references, ...info.references] })).toBe(expected);
    const moved = { ...info, url: 'nar/other.nar', compression: 'none', fileHash: null, fileSize: null };
    expect(fingerprint(parseNarInfo(formatNarInfo(moved)))).toBe(expected);
  });
});

/** Null where the text is refused; any other error is passed on. */
function readOrRefused(text: string): NarInfo | null {
  try {
    return parseNarInfo(text);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

const anyBase = fc
  .tuple(fc.uint8Array({ minLength: 20, maxLength: 20 }), fc.stringMatching(/^[A-Za-z0-9+_?=-]{1,30}$/))
  .map(([bytes, name]) => `${encodeNix32(bytes)}-${name}`);
const anyDigest = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => `sha256:${encodeNix32(bytes)}`);
const anyValue = fc.stringMatching(/^[ -~äß€]{0,40}$/);
const anyInfo: fc.Arbitrary<NarInfo> = fc.record({
  storePath: anyBase.map((base) => `/nix/store/${base}`),
  url: fc.stringMatching(/^nar\/[a-z0-9]{1,20}\.nar(\.xz)?(\?[a-z]=[a-z.%0-9]{0,9})?$/),
  compression: fc.constantFrom('xz', 'bzip2', 'none', 'zstd', 'br', 'gzip'),
  fileHash: fc.option(anyDigest),
  fileSize: fc.option(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })),
  narHash: anyDigest,
  narSize: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  references: fc.uniqueArray(anyBase, { maxLength: 20 }),
  deriver: fc.option(anyBase.map((base) => `${base}.drv`)),
  signatures: fc.uniqueArray(anyValue),
  ca: fc.option(anyDigest.map((hash) => `fixed:r:${hash}`)),
  extra: fc.array(fc.tuple(fc.stringMatching(/^X[A-Za-z-]{1,10}$/), anyValue)),
});

describe('narinfos', () => {
  it('come back from their text with everything in its order', () => {
    fc.assert(
      fc.property(anyInfo, (info) => {
        expect(parseNarInfo(formatNarInfo(info))).toEqual(info);
      }),
    );
  });

  it('of any other text are an error that names what is wrong, never another error', () => {
    const lines = CURL.split('\n').slice(0, -1);
    const anyText = fc.oneof(
      fc.string(),
      fc.string().map((noise) => CURL + noise),
      fc
        .tuple(fc.nat(CURL.length - 1), fc.string({ maxLength: 3 }))
        .map(([at, noise]) => CURL.slice(0, at) + noise + CURL.slice(at + 1)),
      fc.shuffledSubarray(lines).map((some) => some.map((line) => `${line}\n`).join('')),
    );
    fc.assert(
      fc.property(anyText, (text) => {
        const info = readOrRefused(text);
        expect(info === null ? null : parseNarInfo(formatNarInfo(info))).toEqual(info);
      }),
      { numRuns: 500 },
    );
  });

  it('that were cut anywhere but at a line end are refused', () => {
    for (let length = 1; length < CURL.length; length++) {
      if (CURL.charAt(length - 1) === '\n') continue;
      expect(() => parseNarInfo(CURL.slice(0, length))).toThrow('the line feed at its end is missing');
    }
  });

  it('need four fields only; a missing compression is bzip2, as in Nix', () => {
    expect(parseNarInfo(textOf({}))).toEqual({
      storePath: `/nix/store/${SELF}`,
      url: 'nar/x.nar',
      compression: 'bzip2',
      fileHash: null,
      fileSize: null,
      narHash: HASH,
      narSize: 1,
      references: [],
      deriver: null,
      signatures: [],
      ca: null,
      extra: [],
    });
  });

  it('print empty references with the space that Nix needs', () => {
    expect(formatNarInfo(parseNarInfo(textOf({})))).toBe(
      `StorePath: /nix/store/${SELF}\nURL: nar/x.nar\nCompression: bzip2\nNarHash: ${HASH}\nNarSize: 1\nReferences: \n`,
    );
  });

  it('print an empty compression as none', () => {
    const info = { ...parseNarInfo(textOf({})), compression: '' };
    expect(formatNarInfo(info)).toContain('Compression: none\n');
  });

  it('take an empty compression for bzip2, FileSize 0 for unknown, unknown-deriver and an empty CA for none', () => {
    const text = textOf({ Compression: '', FileSize: '0', Deriver: 'unknown-deriver', CA: '' });
    expect(parseNarInfo(text)).toMatchObject({
      compression: 'bzip2',
      fileSize: null,
      deriver: null,
      ca: null,
    });
  });

  it('keep unknown fields in order at their end', () => {
    const text = `${textOf({ System: 'x86_64-linux' })}Provenance: {"a":": ß"}\nSystem: again\nEmpty: \n`;
    const info = parseNarInfo(text);
    expect(info.extra).toEqual([
      ['System', 'x86_64-linux'],
      ['Provenance', '{"a":": ß"}'],
      ['System', 'again'],
      ['Empty', ''],
    ]);
    expect(
      formatNarInfo(info).endsWith(
        'References: \nSystem: x86_64-linux\nProvenance: {"a":": ß"}\nSystem: again\nEmpty: \n',
      ),
    ).toBe(true);
  });

  it('may name unknown fields after what every object has', () => {
    expect(parseNarInfo(`${textOf({})}__proto__: 1\nconstructor: 2\n`).extra).toEqual([
      ['__proto__', '1'],
      ['constructor', '2'],
    ]);
  });

  it('drop repeated references and signatures, and the spaces between references', () => {
    const info = parseNarInfo(`${textOf({ References: ` ${B}  ${A} ${B} ` })}Sig: k:b\nSig: k:a\nSig: k:b\n`);
    expect(info.references).toEqual([B, A]);
    expect(info.signatures).toEqual(['k:b', 'k:a']);
    expect(fingerprint(info)).toBe(`1;/nix/store/${SELF};${HASH};1;/nix/store/${A},/nix/store/${B}`);
  });

  it.each([
    ['hex', 'sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'],
    ['base64', 'sha256:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ='],
    ['the SRI form', 'sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ='],
  ])('have their hashes in %s made nix32', (_, hash) => {
    const nix32 = 'sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic';
    expect(parseNarInfo(textOf({ NarHash: hash, FileHash: hash }))).toMatchObject({
      narHash: nix32,
      fileHash: nix32,
    });
  });

  it('may be of another store directory where that is asked for', () => {
    const text = textOf({ StorePath: `/gnu/store/${SELF}`, References: A });
    const info = parseNarInfo(text, { storeDir: '/gnu/store' });
    expect(fingerprint(info)).toBe(`1;/gnu/store/${SELF};${HASH};1;/gnu/store/${A}`);
    expect(() => parseNarInfo(text)).toThrow('StorePath');
  });

  it.each([
    'nar/x.nar?hash=abc&x=../..',
    'nar/snix-castore/abc_-=?narsize=12',
    'x',
    'a/b/c..d/...nar',
    'nar/a:b@c~d,e+f=.nar.zst',
    'nar/%41.nar',
  ])('may have the URL %j', (url) => {
    expect(parseNarInfo(textOf({ URL: url })).url).toBe(url);
  });
});

describe('a malformed narinfo names the field and the value:', () => {
  it.each(['StorePath', 'URL', 'NarHash', 'NarSize'])('%s missing', (field) => {
    const text = textOf({ [field]: null });
    expect(() => parseNarInfo(text)).toThrow(`Cannot parse narinfo: ${field} "": the field is missing`);
  });

  it.each([
    'StorePath',
    'URL',
    'Compression',
    'FileHash',
    'FileSize',
    'NarHash',
    'NarSize',
    'References',
    'Deriver',
    'CA',
  ])('%s twice', (field) => {
    const text = `${textOf({ [field]: 'first' })}${field}: second\n`;
    expect(() => parseNarInfo(text)).toThrow(
      `Cannot parse narinfo: ${field} "second": the field is there twice`,
    );
  });

  const MALFORMED: readonly (readonly [field: string, value: string])[] = [
    ['StorePath', ''],
    ['StorePath', SELF],
    ['StorePath', `/nix/store/${SELF}/bin`],
    ['StorePath', `/nix/store/${SELF}ä`],
    ['StorePath', `/nix/store/../${SELF}`],
    ['URL', ''],
    ['URL', 'https://elsewhere.example/x.nar'],
    ['URL', 'file:/etc/passwd'],
    ['URL', 'javascript:x'],
    ['URL', '//elsewhere.example/x.nar'],
    ['URL', '/nar/x.nar'],
    ['URL', String.raw`\\elsewhere.example\x.nar`],
    ['URL', String.raw`nar\..\x.nar`],
    ['URL', '../x.nar'],
    ['URL', 'nar/../../x.nar'],
    ['URL', 'nar/..'],
    ['URL', 'nar/./x.nar'],
    ['URL', 'nar/%2e%2E/x.nar'],
    ['URL', 'nar/.%2e?x'],
    ['URL', 'nar/..%2fx.nar'],
    ['URL', 'nar/..%5Cx.nar'],
    ['URL', '?x=nar'],
    ['URL', 'nar/x.nar#y'],
    ['URL', 'nar/x y.nar'],
    ['URL', ' nar/x.nar'],
    ['URL', 'nar/ä.nar'],
    ['Compression', 'x z'],
    ['Compression', '../xz'],
    ['FileHash', ''],
    ['FileHash', 'sha256:'],
    ['FileHash', 'sha1:q3y5i4jm4rpcbk8mlxqjgb1fsdwrlc5s'],
    ['NarHash', ''],
    ['NarHash', HASH.slice('sha256:'.length)],
    ['NarHash', HASH.slice(0, -1)],
    ['NarHash', HASH.replace('1b4', 'zb4')],
    ['NarHash', HASH.replace('1b4', '1e4')],
    ['NarHash', HASH.replace('sha256', 'SHA256')],
    ['NarHash', 'md5:d41d8cd98f00b204e9800998ecf8427e'],
    ['NarSize', ''],
    ['NarSize', '0'],
    ['NarSize', '-1'],
    ['NarSize', '1.5'],
    ['NarSize', '1e3'],
    ['NarSize', '0x10'],
    ['NarSize', ' 1'],
    ['NarSize', '9007199254740992'],
    ['NarSize', '99999999999999999999'],
    ['FileSize', 'big'],
    ['FileSize', ''],
    ['FileSize', '-0'],
    ['References', 'none'],
    ['References', `/nix/store/${A}`],
    ['References', A.toUpperCase()],
    ['Deriver', ''],
    ['Deriver', `/nix/store/${A}.drv`],
    ['CA', 'sha256'],
    ['CA', `fixed:r:${HASH.slice(0, -1)}`],
    ['CA', 'text:'],
    ['CA', 'fixed:r:sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ='],
  ];
  it.each(MALFORMED)('%s %j', (field, value) => {
    expect(() => parseNarInfo(textOf({ [field]: value }))).toThrow(FormatError);
    expect(() => parseNarInfo(textOf({ [field]: value }))).toThrow(expect.objectContaining({ field, value }));
  });

  it.each([...Object.keys(LEAST), 'References', 'Sig', 'CA', 'Unknown'])(
    '%s with a control character',
    (field) => {
      for (const control of ['\0', '\t', '\r', '\x1b', '\x7f']) {
        expect(() => parseNarInfo(textOf({ [field]: `x${control}` }))).toThrow(
          expect.objectContaining({ field, value: `x${control}`, why: 'it has a control character' }),
        );
      }
    },
  );

  it('a reference among good ones', () => {
    expect(() => parseNarInfo(textOf({ References: `${A} bad ${B}` }))).toThrow('References "bad"');
  });

  it('carriage returns at line ends', () => {
    expect(() => parseNarInfo(CURL.replaceAll('\n', '\r\n'))).toThrow(FormatError);
  });

  it.each([
    ['an empty line', '\n', 'line 5'],
    ['a line without a colon', 'hello\n', 'line 5'],
    ['a line without a name', ': x\n', 'line 5'],
    ['a bare References:', 'References:\n', 'References'],
    ['a value without a space before it', 'Compression:xz\n', 'Compression'],
    ['HTML', '<html>\n', 'line 5'],
  ])('%s', (_, line, field) => {
    expect(() => parseNarInfo(textOf({}) + line)).toThrow(expect.objectContaining({ field }));
  });

  it('an empty text', () => {
    expect(() => parseNarInfo('')).toThrow('StorePath "": the field is missing');
  });

  it('a text above 1 MiB, of which the message shows only the beginning', () => {
    const text = textOf({ Long: 'x'.repeat(NAR_INFO_SIZE_LIMIT) });
    expect(() => parseNarInfo(text)).toThrow(/longer than 1048576 characters$/);
    expect(() => parseNarInfo(text)).toThrow(/^.{1,400}$/s);
  });
});

describe('large narinfos', () => {
  it('take time in proportion to their size', () => {
    const references = Array.from(
      { length: 10_000 },
      (_, at) => `${String(at).padStart(32, '0')}-a-name-of-a-path`,
    );
    const text = textOf({ References: references.toReversed().join(' ') });
    expect(text.length).toBeGreaterThan(400_000);
    const began = performance.now();
    const info = parseNarInfo(text);
    expect(fingerprint(info).endsWith(`/nix/store/${references.at(-1)}`)).toBe(true);
    expect(formatNarInfo(info)).toContain(references.toReversed().join(' '));
    // Some ten milliseconds; quadratic work would take many seconds.
    expect(performance.now() - began).toBeLessThan(2000);
  });

  it('of nothing but colons, spaces or line feeds are refused at once', () => {
    const began = performance.now();
    for (const character of [':', ' ', '\n', 'a']) {
      expect(() => parseNarInfo(character.repeat(NAR_INFO_SIZE_LIMIT - 1))).toThrow(FormatError);
    }
    expect(performance.now() - began).toBeLessThan(2000);
  });
});
