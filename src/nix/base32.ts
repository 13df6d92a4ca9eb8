import { FormatError } from './format-error.ts';

/** The alphabet of Nix: digits and lower-case letters without e, o, u and t (`src/libutil/base-nix-32.cc`). */
const ALPHABET = '0123456789abcdfghijklmnpqrsvwxyz';

/** The value of each ASCII code, or 255 where it is not in the alphabet. */
const DIGITS = new Uint8Array(128).fill(255);
for (let digit = 0; digit < ALPHABET.length; digit++) DIGITS[ALPHABET.charCodeAt(digit)] = digit;

/** Characters that nix32 takes for so many bytes. */
export function nix32Length(bytes: number): number {
  return Math.ceil((bytes * 8) / 5);
}

/** Whether every character is of the nix32 alphabet. True for the empty text. */
export function isNix32Alphabet(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    if ((DIGITS[text.charCodeAt(at)] ?? 255) === 255) return false;
  }
  return true;
}

/**
 * The bytes in nix32: five bits a character, the least significant ones in the last.
 *
 * @example
 * encodeNix32(Uint8Array.of(0x1f)) // '0z'
 */
export function encodeNix32(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let count = 0;
  for (const byte of bytes) {
    bits |= byte << count;
    count += 8;
    while (count >= 5) {
      text = ALPHABET.charAt(bits & 31) + text;
      bits >>>= 5;
      count -= 5;
    }
  }
  return count > 0 ? ALPHABET.charAt(bits) + text : text;
}

/**
 * The bytes of a nix32 text.
 *
 * @throws FormatError if a character is not in the alphabet, the length is none that whole bytes have,
 *   or the bits past the last byte are not zero
 */
export function decodeNix32(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8));
  if (nix32Length(bytes.length) !== text.length) {
    throw new FormatError('nix32', 'text', text, `${text.length} characters do not make whole bytes`);
  }
  let bits = 0;
  let count = 0;
  let filled = 0;
  for (let at = text.length - 1; at >= 0; at--) {
    const digit = DIGITS[text.charCodeAt(at)] ?? 255;
    if (digit === 255) {
      throw new FormatError('nix32', 'text', text, `${JSON.stringify(text.charAt(at))} is not a nix32 digit`);
    }
    bits |= digit << count;
    count += 5;
    if (count >= 8) {
      bytes[filled++] = bits & 255;
      bits >>>= 8;
      count -= 8;
    }
  }
  if (bits !== 0) throw new FormatError('nix32', 'text', text, 'the bits past the last byte are not zero');
  return bytes;
}
