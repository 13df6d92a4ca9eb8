import { encodeBase64 } from '../nix/base64.ts';

/** The `Authorization` for a user name and password, in UTF-8 (RFC 7617). */
export function basicAuthorization({
  user,
  password,
}: {
  readonly user: string;
  readonly password: string;
}): string {
  return `Basic ${encodeBase64(new TextEncoder().encode(`${user}:${password}`))}`;
}
