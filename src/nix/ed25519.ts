import { getPublicKeyAsync, signAsync, verifyAsync } from '@noble/ed25519';
import { decodeBase64 } from './base64.ts';

/** Makes the 64-byte signature of a message. */
type Sign = (message: Uint8Array) => Promise<Uint8Array>;

/** Whether a 64-byte signature is of the message. */
export type Verify = (message: Uint8Array, signature: Uint8Array) => Promise<boolean>;

/** Ed25519 as in RFC 8032. Keys are prepared once and used often, since that is what costs. */
export interface Ed25519 {
  readonly implementation: 'webcrypto' | 'noble';
  /** The 32-byte public key of a 32-byte seed. */
  publicKeyOf(seed: Uint8Array): Promise<Uint8Array>;
  /** @param seed 32 bytes */
  signer(seed: Uint8Array): Promise<Sign>;
  /** @param publicKey 32 bytes; those that are no point of the curve verify nothing */
  verifier(publicKey: Uint8Array): Promise<Verify>;
}

/** Everything before the seed in a PKCS #8 key (RFC 8410 §7). */
const PKCS8_PREFIX: readonly number[] = [
  0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/**
 * The encodings of the points of small order, in hex, without the sign bit and in all the forms that a decoder may
 * take: 0, 1, the two of order 8, -1, and 0 and 1 once more with the prime added.
 */
const SMALL_ORDER: ReadonlySet<string> = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
]);

/**
 * Whether it is a point that needs no secret to sign for. WebCrypto is to refuse these
 * (https://wicg.github.io/webcrypto-secure-curves/#ed25519-operations), as Node's does, but that of Workers does not.
 */
function hasSmallOrder(point: Uint8Array): boolean {
  const hex = [...point].map((byte, at) => (at === 31 ? byte & 0x7f : byte).toString(16).padStart(2, '0'));
  return SMALL_ORDER.has(hex.join(''));
}

/** The implementation of the runtime. */
export function webCryptoEd25519(subtle: typeof crypto.subtle = crypto.subtle): Ed25519 {
  const importSeed = (seed: Uint8Array, extractable: boolean) =>
    subtle.importKey('pkcs8', Uint8Array.of(...PKCS8_PREFIX, ...seed), 'Ed25519', extractable, ['sign']);
  return {
    implementation: 'webcrypto',
    async publicKeyOf(seed) {
      const { x } = await subtle.exportKey('jwk', await importSeed(seed, true));
      const publicKey = x === undefined ? null : decodeBase64(x.replaceAll('-', '+').replaceAll('_', '/'));
      if (publicKey === null) throw new TypeError('Cannot read the public half of an exported Ed25519 key');
      return publicKey;
    },
    async signer(seed) {
      const key = await importSeed(seed, false);
      return async (message) => new Uint8Array(await subtle.sign('Ed25519', key, new Uint8Array(message)));
    },
    async verifier(publicKey) {
      if (hasSmallOrder(publicKey)) return () => Promise.resolve(false);
      try {
        const key = await subtle.importKey('raw', new Uint8Array(publicKey), 'Ed25519', false, ['verify']);
        return async (message, signature) => {
          if (signature.length !== 64 || hasSmallOrder(signature.subarray(0, 32))) return false;
          return subtle.verify('Ed25519', key, new Uint8Array(signature), new Uint8Array(message));
        };
      } catch (error) {
        if (error instanceof DOMException && error.name === 'DataError') return () => Promise.resolve(false);
        throw error;
      }
    },
  };
}

/** `@noble/ed25519`, some ten times slower: for runtimes whose WebCrypto has SHA-512 but no Ed25519. */
export function nobleEd25519(): Ed25519 {
  return {
    implementation: 'noble',
    publicKeyOf: (seed) => getPublicKeyAsync(seed),
    signer: (seed) => {
      const own = seed.slice();
      return Promise.resolve((message) => signAsync(message, own));
    },
    verifier: (publicKey) => {
      const own = publicKey.slice();
      return Promise.resolve((message, signature) => nobleVerify(message, signature, own));
    },
  };
}

async function nobleVerify(message: Uint8Array, signature: Uint8Array, key: Uint8Array): Promise<boolean> {
  if (signature.length !== 64) return false;
  // The default follows ZIP 215, which accepts signatures that RFC 8032 does not.
  return verifyAsync(signature, message, key, { zip215: false });
}

/** Test 1 of RFC 8032 §7.1: the signature of the empty message, in base64. */
const PROBE_KEY = '11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=';
const PROBE_SIGNATURE =
  '5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlUUFDjnoQCw==';

/** WebCrypto where it verifies a known signature, else noble. */
export async function detectEd25519(subtle: typeof crypto.subtle = crypto.subtle): Promise<Ed25519> {
  const webCrypto = webCryptoEd25519(subtle);
  try {
    const verify = await webCrypto.verifier(decodeBase64(PROBE_KEY) ?? new Uint8Array());
    if (await verify(new Uint8Array(), decodeBase64(PROBE_SIGNATURE) ?? new Uint8Array())) return webCrypto;
  } catch {
    // Whatever the runtime throws at an algorithm that it does not have.
  }
  return nobleEd25519();
}

let detected: Ed25519 | null = null;

/** What `detectEd25519` finds in this runtime, looked for once. */
export async function defaultEd25519(): Promise<Ed25519> {
  // The value is kept and not its promise: Workers must not await the promise of another request.
  detected ??= await detectEd25519();
  return detected;
}
