const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** The value of each ASCII code, or 255 where it is not in the alphabet. */
const DIGITS = new Uint8Array(128).fill(255);
for (let digit = 0; digit < ALPHABET.length; digit++) DIGITS[ALPHABET.charCodeAt(digit)] = digit;

/** Base64 with padding (RFC 4648 §4). */
export function encodeBase64(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let count = 0;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    count += 8;
    while (count >= 6) {
      count -= 6;
      text += ALPHABET.charAt((bits >>> count) & 63);
    }
    bits &= 63;
  }
  if (count > 0) text += ALPHABET.charAt((bits << (6 - count)) & 63);
  return text.padEnd(Math.ceil(bytes.length / 3) * 4, '=');
}

/**
 * The bytes of a base64 text. The padding may be missing altogether, as Nix has it; a wrong padding,
 * characters outside the alphabet (white space too) and non-zero bits past the last byte are refused.
 *
 * @returns null if it is malformed: the caller knows whether the value may be shown
 */
export function decodeBase64(text: string): Uint8Array | null {
  let length = text.length;
  if (text.endsWith('=')) {
    if (length % 4 !== 0) return null;
    length -= text.endsWith('==') ? 2 : 1;
  }
  if (length % 4 === 1) return null;

  const bytes = new Uint8Array(Math.floor((length * 6) / 8));
  let bits = 0;
  let count = 0;
  let filled = 0;
  for (let at = 0; at < length; at++) {
    const digit = DIGITS[text.charCodeAt(at)] ?? 255;
    if (digit === 255) return null;
    bits = (bits << 6) | digit;
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes[filled++] = bits >>> count;
      bits &= (1 << count) - 1;
    }
  }
  return bits === 0 ? bytes : null;
}
