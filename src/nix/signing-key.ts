import { decodeBase64, encodeBase64 } from './base64.ts';
import { defaultEd25519 } from './ed25519.ts';
import type { Ed25519, Verify } from './ed25519.ts';
import { FormatError } from './format-error.ts';

const PUBLIC_KEY_SIZE = 32;
const SEED_SIZE = 32;
const SIGNATURE_SIZE = 64;

/** Stands for a secret in errors (law 10). */
const HIDDEN = '(hidden)';

/** An Ed25519 public key with the name that its signatures bear. */
export interface PublicKey {
  readonly name: string;
  /** 32 bytes. */
  readonly bytes: Uint8Array;
}

/** An Ed25519 secret key. Those made here keep their seed from `JSON.stringify` and from inspection. */
export interface SecretKey {
  readonly name: string;
  /** 32 bytes. Secret. */
  readonly seed: Uint8Array;
  readonly publicKey: PublicKey;
}

/** Signs with one key, imported once. */
export interface Signer {
  readonly publicKey: PublicKey;
  /** @returns `name:<base64>` of the signature of the message in UTF-8 */
  sign(message: string): Promise<string>;
}

/**
 * A public key as in `trusted-public-keys`: `name:<base64 of 32 bytes>`. White space around it is dropped.
 *
 * @throws FormatError
 */
export function parsePublicKey(text: string): PublicKey {
  const trimmed = text.trim();
  const colon = trimmed.indexOf(':');
  if (colon < 0) throw new FormatError('public key', 'key', trimmed, 'expected "<name>:<base64>"');
  const name = trimmed.slice(0, colon);
  assertKeyName('public key', name, name);
  const bytes = decodeBase64(trimmed.slice(colon + 1));
  if (bytes?.length !== PUBLIC_KEY_SIZE) {
    throw new FormatError(
      'public key',
      'key',
      trimmed,
      `expected ${PUBLIC_KEY_SIZE} bytes in base64 after the name`,
    );
  }
  return { name, bytes };
}

/** `name:<base64>` */
export function formatPublicKey(key: PublicKey): string {
  return `${key.name}:${encodeBase64(key.bytes)}`;
}

/**
 * A secret key as `nix-store --generate-binary-cache-key` writes it: `name:<base64 of 64 bytes>`, the
 * seed first, then the public key. White space around it is dropped.
 *
 * @throws FormatError without any part of the text, also where the public half is not that of the seed
 */
export async function parseSecretKey(text: string, ed25519?: Ed25519): Promise<SecretKey> {
  const trimmed = text.trim();
  const colon = trimmed.indexOf(':');
  if (colon < 0) throw new FormatError('secret key', 'key', HIDDEN, 'expected "<name>:<base64>"');
  const name = trimmed.slice(0, colon);
  assertKeyName('secret key', name, HIDDEN);
  const bytes = decodeBase64(trimmed.slice(colon + 1));
  if (bytes?.length !== SEED_SIZE + PUBLIC_KEY_SIZE) {
    throw new FormatError('secret key', 'key', HIDDEN, 'expected 64 bytes in base64 after the name');
  }
  const key = await secretKeyOf(name, bytes.slice(0, SEED_SIZE), ed25519);
  if (!equalBytes(key.publicKey.bytes, bytes.subarray(SEED_SIZE))) {
    throw new FormatError(
      'secret key',
      'key',
      HIDDEN,
      'its second half is not the public key of its first half',
    );
  }
  return key;
}

/** `name:<base64>` of seed and public key. Secret. */
export function formatSecretKey(key: SecretKey): string {
  return `${key.name}:${encodeBase64(Uint8Array.of(...key.seed, ...key.publicKey.bytes))}`;
}

/**
 * A new key from the secure random source of the runtime.
 *
 * @param name as `cache.example.org-1`: visible ASCII without a colon
 * @throws FormatError for any other name
 */
export async function generateSecretKey(name: string, ed25519?: Ed25519): Promise<SecretKey> {
  assertKeyName('key name', name, name);
  return secretKeyOf(name, crypto.getRandomValues(new Uint8Array(SEED_SIZE)), ed25519);
}

async function secretKeyOf(name: string, seed: Uint8Array, ed25519?: Ed25519): Promise<SecretKey> {
  const publicKey = await (ed25519 ?? (await defaultEd25519())).publicKeyOf(seed);
  return new GuardedSecretKey(name, seed, publicKey);
}

class GuardedSecretKey implements SecretKey {
  readonly name: string;
  readonly publicKey: PublicKey;
  // A private field behind a getter is in no enumeration: a key that slips into a log line shows only its name.
  readonly #seed: Uint8Array;

  constructor(name: string, seed: Uint8Array, publicKey: Uint8Array) {
    this.name = name;
    this.publicKey = { name, bytes: publicKey };
    this.#seed = seed;
  }

  get seed(): Uint8Array {
    return this.#seed;
  }
}

function assertKeyName(what: string, name: string, shown: string): void {
  if (!/^[!-9;-~]+$/.test(name)) {
    throw new FormatError(what, 'name', shown, 'expected visible ASCII characters without a colon');
  }
}

function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}

/** A signer for the key. The same message always has the same signature, as in Nix. */
export async function createSigner(key: SecretKey, ed25519?: Ed25519): Promise<Signer> {
  const sign = await (ed25519 ?? (await defaultEd25519())).signer(key.seed);
  const { name, publicKey } = key;
  return {
    publicKey,
    async sign(message) {
      return `${name}:${encodeBase64(await sign(new TextEncoder().encode(message)))}`;
    },
  };
}

/** The name of the key in a signature, `name:<base64>`; the whole text where it is malformed. */
export function keyNameOf(signature: string): string {
  const colon = signature.indexOf(':');
  return colon === -1 ? signature : signature.slice(0, colon);
}

/**
 * Finds the key that made a signature.
 *
 * @param signature `name:<base64 of 64 bytes>`; one that is malformed verifies never
 * @param keys by any text of their own, as `formatPublicKey` gives; several may share a name. A key object is
 *   imported once and the import kept as long as the object lives.
 * @returns the key of that name that verifies it; null if there is none
 */
export async function verifySignature(
  message: string,
  signature: string,
  keys: ReadonlyMap<string, PublicKey>,
  ed25519?: Ed25519,
): Promise<PublicKey | null> {
  const colon = signature.indexOf(':');
  if (colon <= 0) return null;
  const name = signature.slice(0, colon);
  const bytes = decodeBase64(signature.slice(colon + 1));
  if (bytes?.length !== SIGNATURE_SIZE) return null;

  for (const key of keys.values()) {
    if (key.name !== name) continue;
    const verify = await verifierOf(key, ed25519 ?? (await defaultEd25519()));
    if (await verify(new TextEncoder().encode(message), bytes)) return key;
  }
  return null;
}

const verifiers = new WeakMap<Ed25519, WeakMap<PublicKey, Verify>>();

async function verifierOf(key: PublicKey, ed25519: Ed25519): Promise<Verify> {
  let ofKeys = verifiers.get(ed25519);
  if (ofKeys === undefined) verifiers.set(ed25519, (ofKeys = new WeakMap()));
  const known = ofKeys.get(key);
  if (known !== undefined) return known;
  const verify = await ed25519.verifier(key.bytes);
  ofKeys.set(key, verify);
  return verify;
}
