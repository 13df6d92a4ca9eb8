import { Buffer } from 'node:buffer';
import { createHash, generateKeyPairSync, sign as nodeSign } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { defaultEd25519, detectEd25519, nobleEd25519, webCryptoEd25519 } from '../../../src/nix/ed25519.ts';

const hex = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, 'hex'));

/** RFC 8032 §7.1: tests 1 to 3, and SHA(abc). */
const VECTORS = [
  {
    name: 'the empty message',
    seed: '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    publicKey: 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    message: '',
    signature:
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  },
  {
    name: 'one byte',
    seed: '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    publicKey: '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    message: '72',
    signature:
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  },
  {
    name: 'two bytes',
    seed: 'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    publicKey: 'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    message: 'af82',
    signature:
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  },
  {
    name: 'the SHA-512 of abc',
    seed: '833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42',
    publicKey: 'ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf',
    message: createHash('sha512').update('abc').digest('hex'),
    signature:
      'dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704',
  },
];

/** The order of the base point (RFC 8032 §5.1). */
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

const implementations = [webCryptoEd25519(), nobleEd25519()];

describe.each(implementations)('Ed25519 by $implementation', (ed25519) => {
  it.each(VECTORS)('makes and verifies the signature that RFC 8032 gives for $name', async (vector) => {
    const publicKey = await ed25519.publicKeyOf(hex(vector.seed));
    expect(Buffer.from(publicKey).toString('hex')).toBe(vector.publicKey);
    const signature = await (await ed25519.signer(hex(vector.seed)))(hex(vector.message));
    expect(Buffer.from(signature).toString('hex')).toBe(vector.signature);
    const verify = await ed25519.verifier(publicKey);
    expect(await verify(hex(vector.message), signature)).toBe(true);
  });

  it('refuses a signature with any one bit changed, and another message', async () => {
    const seed = hex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb');
    const verify = await ed25519.verifier(await ed25519.publicKeyOf(seed));
    const message = hex('00ff');
    const signature = await (await ed25519.signer(seed))(message);
    expect(await verify(message, signature)).toBe(true);
    expect(await verify(hex('00fe'), signature)).toBe(false);
    for (let bit = 0; bit < 512; bit += 13) {
      const changed = signature.slice();
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(await verify(message, changed)).toBe(false);
    }
  });

  it('refuses a second form of a good signature, with the order added to its second half', async () => {
    const seed = hex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb');
    const verify = await ed25519.verifier(await ed25519.publicKeyOf(seed));
    const signature = await (await ed25519.signer(seed))(hex('72'));
    const scalar = BigInt(`0x${Buffer.from(signature.slice(32).toReversed()).toString('hex')}`) + ORDER;
    const other = Uint8Array.of(
      ...signature.subarray(0, 32),
      ...hex(scalar.toString(16).padStart(64, '0')).toReversed(),
    );
    expect(await verify(hex('72'), other)).toBe(false);
  });

  it.each([
    ['that are no point', 'ff'.repeat(32)],
    ['of small order', '00'.repeat(32)],
    ['that are the neutral element', `01${'00'.repeat(31)}`],
    ['that are the neutral element with a sign', `01${'00'.repeat(30)}80`],
    ['of order 2', `ec${'ff'.repeat(30)}7f`],
    ['of order 8', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'],
    ['of order 8, with a sign', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85'],
    ['of order 8, the other', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'],
    ['of small order, above the prime', `ed${'ff'.repeat(30)}7f`],
    ['that are the neutral element, above the prime', `ee${'ff'.repeat(30)}7f`],
  ])('verifies nothing with key bytes %s', async (_, bytes) => {
    const verify = await ed25519.verifier(hex(bytes));
    expect(await verify(hex('72'), new Uint8Array(64))).toBe(false);
    const signature = Uint8Array.of(1, ...new Uint8Array(63));
    // Which of them would verify depends on the hash of the message.
    for (let byte = 0; byte < 32; byte++) {
      expect(await verify(Uint8Array.of(byte), signature)).toBe(false);
    }
  });

  it('refuses signatures of a wrong length', async () => {
    const verify = await ed25519.verifier(hex(VECTORS[1]?.publicKey ?? ''));
    expect(await verify(hex('72'), new Uint8Array(63))).toBe(false);
    expect(await verify(hex('72'), new Uint8Array(65))).toBe(false);
    expect(await verify(hex('72'), new Uint8Array())).toBe(false);
  });

  it('verifies what OpenSSL signs', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const { x = '' } = publicKey.export({ format: 'jwk' });
    const verify = await ed25519.verifier(new Uint8Array(Buffer.from(x, 'base64url')));
    expect(await verify(hex('0102'), new Uint8Array(nodeSign(null, hex('0102'), privateKey)))).toBe(true);
  });
});

describe('the two implementations', () => {
  it('make the same keys and signatures', async () => {
    const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 });
    await fc.assert(
      fc.asyncProperty(bytes, fc.uint8Array({ maxLength: 300 }), async (seed, message) => {
        const made = await Promise.all(
          implementations.map(async (ed25519) => ({
            publicKey: await ed25519.publicKeyOf(seed),
            signature: await (await ed25519.signer(seed))(message),
          })),
        );
        expect(made[1]).toEqual(made[0]);
        const [{ publicKey, signature } = { publicKey: seed, signature: seed }] = made;
        for (const ed25519 of implementations) {
          expect(await (await ed25519.verifier(publicKey))(message, signature)).toBe(true);
        }
      }),
      { numRuns: 25 },
    );
  });
});

/** The WebCrypto of this runtime with some methods replaced. */
const subtleWith = (methods: Partial<typeof crypto.subtle>): typeof crypto.subtle => {
  const replaced = Object.entries(methods).map(([name, value]) => [name, { value }]);
  return Object.create(
    crypto.subtle,
    Object.fromEntries(replaced) as PropertyDescriptorMap,
  ) as typeof crypto.subtle;
};

describe('the choice of an implementation', () => {
  it('takes WebCrypto where it knows Ed25519, as Node does', async () => {
    expect((await detectEd25519()).implementation).toBe('webcrypto');
    expect(await defaultEd25519()).toBe(await defaultEd25519());
  });

  it('takes noble where WebCrypto does not know the algorithm', async () => {
    const subtle = subtleWith({
      importKey: () => Promise.reject(new DOMException('Unrecognized algorithm name', 'NotSupportedError')),
    });
    expect((await detectEd25519(subtle)).implementation).toBe('noble');
  });

  it('takes noble where WebCrypto throws at once', async () => {
    const subtle = subtleWith({
      importKey: () => {
        throw new TypeError('not implemented');
      },
    });
    expect((await detectEd25519(subtle)).implementation).toBe('noble');
  });

  it('takes noble where WebCrypto does not verify a signature known to be good', async () => {
    const subtle = subtleWith({
      importKey: crypto.subtle.importKey.bind(crypto.subtle),
      verify: () => Promise.resolve(false),
    });
    expect((await detectEd25519(subtle)).implementation).toBe('noble');
  });

  it('probes with a signature of RFC 8032', async () => {
    const verified: string[] = [];
    const subtle = subtleWith({
      importKey: crypto.subtle.importKey.bind(crypto.subtle),
      verify: (_algorithm, _key, signature) => {
        verified.push(Buffer.from(signature as Uint8Array).toString('hex'));
        return Promise.resolve(true);
      },
    });
    expect((await detectEd25519(subtle)).implementation).toBe('webcrypto');
    expect(verified).toEqual([VECTORS[0]?.signature]);
  });

  it('passes on what is no fault of the key', async () => {
    const subtle = subtleWith({ importKey: () => Promise.reject(new Error('out of memory')) });
    const key = hex(VECTORS[0]?.publicKey ?? '');
    await expect(webCryptoEd25519(subtle).verifier(key)).rejects.toThrow('out of memory');
    const refusing = subtleWith({
      importKey: () => Promise.reject(new DOMException('bad point', 'DataError')),
    });
    const verify = await webCryptoEd25519(refusing).verifier(key);
    expect(await verify(new Uint8Array(), new Uint8Array(64))).toBe(false);
  });
});
