import { DecompressionError } from '../nar/decompress.ts';
import { FormatError } from '../nix/format-error.ts';
import { parseNarInfo } from '../nix/nar-info.ts';
import type { NarInfo } from '../nix/nar-info.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { BodyTooLargeError } from '../stream/byte-stream.ts';
import { redactUrl } from '../telemetry/redact.ts';
import { smallText } from './content-encoding.ts';
import { InvalidAnswerError } from './invalid-answer.ts';
import { leave } from './response-body.ts';
import type { TransportResponse } from './transport.ts';

/** A narinfo that can be offered, or why it cannot. */
export type NarInfoAnswer =
  | { readonly kind: 'narinfo'; readonly info: NarInfo }
  | { readonly kind: 'refused'; readonly reason: string };

/**
 * Reads the narinfo of an answer to its end. One that is malformed, too large, of another path or of another
 * store directory is refused.
 *
 * @param hash of the store path that was asked for
 * @throws InvalidAnswerError for an answer to a question that was not asked or that cannot be decoded; TransportError
 *   if it is not whole. Its body is left then
 */
export async function readNarInfoResponse(
  response: TransportResponse,
  hash: string,
  storeDir: string,
): Promise<NarInfoAnswer> {
  if (response.status !== 200) {
    await leave(response.body);
    throw new InvalidAnswerError(`answered ${response.status} without a Range`);
  }
  try {
    const info = parseNarInfo(await smallText(response, 'The narinfo'), { storeDir });
    if (parseStorePath(info.storePath, storeDir).hash === hash) return { kind: 'narinfo', info };
    return { kind: 'refused', reason: `it is the narinfo of ${info.storePath}` };
  } catch (error) {
    const refused =
      error instanceof FormatError ||
      error instanceof BodyTooLargeError ||
      error instanceof DecompressionError;
    if (!refused) throw error;
    return { kind: 'refused', reason: reasonOf(error) };
  }
}

/** The URL of a NAR may carry a token in its query, and the reason goes to the log (law 10). */
function reasonOf(error: Error): string {
  if (!(error instanceof FormatError) || error.field !== 'URL') return error.message;
  return new FormatError('narinfo', error.field, redactUrl(error.value), error.why).message;
}
