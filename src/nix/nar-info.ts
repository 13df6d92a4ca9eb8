import { decodeNix32 } from './base32.ts';
import { parseContentAddress } from './content-address.ts';
import { FormatError } from './format-error.ts';
import { formatHash, parseHash } from './hash.ts';
import { faultOfNarUrl } from './nar-url.ts';
import { DEFAULT_STORE_DIR, faultOfBaseName, parseStorePath } from './store-path.ts';

/** The largest narinfo that is read, in characters. */
export const NAR_INFO_SIZE_LIMIT: number = 1024 * 1024;

/** What a cache says of a store path: the signed facts, and where its NAR is. */
export interface NarInfo {
  /** The full store path, as `/nix/store/<hash>-<name>`. */
  readonly storePath: string;
  /** Where the NAR is, relative to the cache, with its query. */
  readonly url: string;
  /** As the narinfo names it; `bzip2` where the field is missing or empty. An empty text means `none`. */
  readonly compression: string;
  /** `sha256:<nix32>` of the encoded NAR; null where the cache does not tell. */
  readonly fileHash: string | null;
  /** Bytes of the encoded NAR; null where the cache does not tell (Nix takes 0 for that too). */
  readonly fileSize: number | null;
  /** `sha256:<nix32>` of the NAR. */
  readonly narHash: string;
  /** Bytes of the NAR, more than 0. */
  readonly narSize: number;
  /** Base names (`<hash>-<name>`) without repetitions, in the order of the narinfo, a self-reference included. */
  readonly references: readonly string[];
  /** Base name of the derivation; null where it is missing or `unknown-deriver`. */
  readonly deriver: string | null;
  /** Without repetitions, in the order of the narinfo. They may be of any form: a malformed one verifies never. */
  readonly signatures: readonly string[];
  /** The content address, as `fixed:r:sha256:…`; null where it is missing or empty. */
  readonly ca: string | null;
  /** Unknown fields, in order. */
  readonly extra: readonly (readonly [name: string, value: string])[];
}

/** Fields that may be there once at most. */
const SINGLE_FIELDS: ReadonlySet<string> = new Set([
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
]);

/** The lines of a narinfo by what becomes of them. */
interface Fields {
  readonly single: ReadonlyMap<string, string>;
  readonly signatures: readonly string[];
  readonly extra: readonly (readonly [string, string])[];
}

/**
 * Reads a narinfo (rules of `src/libstore/nar-info.cc` in Nix). Every line, the last one too, must end in a line feed:
 * a text that was cut is refused. Stricter than Nix where it guesses: each line needs the space after
 * its colon (without it Nix swallows the next line), a known field but `Sig` may be there once only,
 * control characters (so CRLF) are refused, and hashes must be SHA-256.
 *
 * @param options.storeDir the store directory that the path must be in; `/nix/store` by default
 * @throws FormatError that names the field and its value
 */
export function parseNarInfo(text: string, options: { readonly storeDir?: string } = {}): NarInfo {
  if (text.length > NAR_INFO_SIZE_LIMIT) {
    throw new FormatError('narinfo', 'text', text, `longer than ${NAR_INFO_SIZE_LIMIT} characters`);
  }
  const { single, signatures, extra } = splitFields(text);
  const fileHash = single.get('FileHash');
  return {
    storePath: readStorePath(required(single, 'StorePath'), options.storeDir ?? DEFAULT_STORE_DIR),
    url: readUrl(required(single, 'URL')),
    compression: readCompression(single.get('Compression')),
    fileHash: fileHash === undefined ? null : readSha256('FileHash', fileHash),
    fileSize: readFileSize(single.get('FileSize')),
    narHash: readSha256('NarHash', required(single, 'NarHash')),
    narSize: readNarSize(required(single, 'NarSize')),
    references: readReferences(single.get('References')),
    deriver: readDeriver(single.get('Deriver')),
    signatures: distinct(signatures),
    ca: readContentAddress(single.get('CA')),
    extra,
  };
}

function splitFields(text: string): Fields {
  const single = new Map<string, string>();
  const signatures: string[] = [];
  const extra: (readonly [string, string])[] = [];
  let at = 0;
  for (let line = 1; at < text.length; line++) {
    const end = text.indexOf('\n', at);
    if (end < 0)
      throw new FormatError('narinfo', `line ${line}`, text.slice(at), 'the line feed at its end is missing');
    const [name, value] = splitLine(text.slice(at, end), line);
    if (name === 'Sig') signatures.push(value);
    else if (!SINGLE_FIELDS.has(name)) extra.push([name, value]);
    else if (single.has(name)) throw new FormatError('narinfo', name, value, 'the field is there twice');
    else single.set(name, value);
    at = end + 1;
  }
  return { single, signatures, extra };
}

function splitLine(line: string, number: number): [name: string, value: string] {
  const colon = line.indexOf(':');
  if (colon <= 0) throw new FormatError('narinfo', `line ${number}`, line, 'expected "<field>: <value>"');
  const name = line.slice(0, colon);
  if (line.charAt(colon + 1) !== ' ') {
    throw new FormatError('narinfo', name, line.slice(colon + 1), 'expected a space after the colon');
  }
  const value = line.slice(colon + 2);
  if (hasControlCharacter(line)) throw new FormatError('narinfo', name, value, 'it has a control character');
  return [name, value];
}

function hasControlCharacter(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

function required(fields: ReadonlyMap<string, string>, name: string): string {
  const value = fields.get(name);
  if (value === undefined) throw new FormatError('narinfo', name, '', 'the field is missing');
  return value;
}

function readStorePath(value: string, storeDir: string): string {
  try {
    parseStorePath(value, storeDir);
  } catch (error) {
    throw asFieldError(error, 'StorePath', value);
  }
  return value;
}

function readUrl(value: string): string {
  const fault = faultOfNarUrl(value);
  if (fault !== null) throw new FormatError('narinfo', 'URL', value, fault);
  return value;
}

function readCompression(value: string | undefined): string {
  if (value === undefined || value === '') return 'bzip2';
  if (!/^[0-9A-Za-z_.+-]{1,32}$/.test(value)) {
    throw new FormatError('narinfo', 'Compression', value, 'expected the name of a compression');
  }
  return value;
}

/** `sha256:` and 52 characters of nix32 are 59. */
const NIX32_SHA256_LENGTH = 59;

/** A SHA-256 hash in any form that Nix reads, as `sha256:<nix32>`. */
function readSha256(field: string, value: string): string {
  try {
    if (value.length === NIX32_SHA256_LENGTH && value.startsWith('sha256:')) {
      decodeNix32(value.slice('sha256:'.length));
      return value;
    }
    if (!/[:-]/.test(value)) throw new FormatError('hash', 'algorithm', value, 'the hash does not name one');
    return formatHash(parseHash(value, 'sha256'), 'nix32');
  } catch (error) {
    throw asFieldError(error, field, value);
  }
}

function readFileSize(value: string | undefined): number | null {
  if (value === undefined) return null;
  const size = readSize('FileSize', value);
  return size === 0 ? null : size;
}

function readNarSize(value: string): number {
  const size = readSize('NarSize', value);
  if (size === 0) throw new FormatError('narinfo', 'NarSize', value, 'expected more than 0 bytes');
  return size;
}

function readSize(field: string, value: string): number {
  const size = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(size)) {
    throw new FormatError('narinfo', field, value, 'expected a number of bytes below 2^53');
  }
  return size;
}

function readReferences(value: string | undefined): readonly string[] {
  if (value === undefined || value === '') return [];
  const references = value.split(' ').filter((reference) => reference !== '');
  for (const reference of references) checkBaseName('References', reference);
  return distinct(references);
}

function readDeriver(value: string | undefined): string | null {
  if (value === undefined || value === 'unknown-deriver') return null;
  checkBaseName('Deriver', value);
  return value;
}

function checkBaseName(field: string, value: string): void {
  const fault = faultOfBaseName(value);
  if (fault !== null) throw new FormatError('narinfo', field, value, fault);
}

function readContentAddress(value: string | undefined): string | null {
  if (value === undefined || value === '') return null;
  try {
    parseContentAddress(value);
  } catch (error) {
    throw asFieldError(error, 'CA', value);
  }
  return value;
}

/** The error of a part, said of the field that the part is of. */
function asFieldError(error: unknown, field: string, value: string): unknown {
  if (!(error instanceof FormatError)) return error;
  return new FormatError('narinfo', field, value, error.why);
}

function distinct(values: readonly string[]): readonly string[] {
  return values.length < 2 ? values : [...new Set(values)];
}

/**
 * The text of a narinfo, byte for byte as Nix prints it, unknown fields at the end. `References` has its space even
 * when it is empty: without it, Nix swallows the next line.
 */
export function formatNarInfo(info: NarInfo): string {
  let text = `StorePath: ${info.storePath}\nURL: ${info.url}\nCompression: ${info.compression || 'none'}\n`;
  if (info.fileHash !== null) text += `FileHash: ${info.fileHash}\n`;
  if (info.fileSize !== null) text += `FileSize: ${info.fileSize}\n`;
  text += `NarHash: ${info.narHash}\nNarSize: ${info.narSize}\nReferences: ${info.references.join(' ')}\n`;
  if (info.deriver !== null) text += `Deriver: ${info.deriver}\n`;
  for (const signature of info.signatures) text += `Sig: ${signature}\n`;
  if (info.ca !== null) text += `CA: ${info.ca}\n`;
  for (const [name, value] of info.extra) text += `${name}: ${value}\n`;
  return text;
}

/**
 * What is signed of a path (`ValidPathInfo::fingerprint` in Nix): `1;<StorePath>;<NarHash>;<NarSize>;<references>`, the
 * references as full paths, each once, in ascending order whatever the order of the narinfo, joined by commas.
 */
export function fingerprint(info: Pick<NarInfo, 'storePath' | 'narHash' | 'narSize' | 'references'>): string {
  const prefix = info.storePath.slice(0, info.storePath.lastIndexOf('/') + 1);
  const references = isAscending(info.references) ? info.references : [...new Set(info.references)].sort();
  const paths = references.map((reference) => prefix + reference).join(',');
  return `1;${info.storePath};${info.narHash};${info.narSize};${paths}`;
}

function isAscending(values: readonly string[]): boolean {
  let previous = '';
  for (const value of values) {
    if (value <= previous) return false;
    previous = value;
  }
  return true;
}
