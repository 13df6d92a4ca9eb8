import type { PathWithNar } from '../database/metadata-store.ts';
import { createSha256 } from '../nar/sha256.ts';
import { formatNarInfo, type NarInfo } from '../nix/nar-info.ts';

/** A narinfo as it is answered. */
export interface RenderedNarInfo {
  readonly text: string;
  /** The same in UTF-8. */
  readonly bytes: Uint8Array;
  /** Strong, quoted; follows from the bytes. */
  readonly etag: string;
}

const utf8 = new TextEncoder();

/** The narinfo that the index stands for: our key as `URL`, the signed facts as recorded. */
function narInfoOf({ path, nar }: PathWithNar): NarInfo {
  return {
    storePath: path.storePath,
    url: nar.key,
    compression: nar.compression,
    fileHash: nar.fileHash,
    fileSize: nar.fileSize,
    narHash: path.narHash,
    narSize: path.narSize,
    references: path.references,
    deriver: path.deriver,
    signatures: path.signatures,
    ca: path.ca,
    extra: path.extra,
  };
}

export function render(known: PathWithNar): RenderedNarInfo {
  const text = formatNarInfo(narInfoOf(known));
  return rendered(text, utf8.encode(text));
}

/** One that is stored: as it is. */
export function renderBytes(bytes: Uint8Array): RenderedNarInfo {
  return rendered(new TextDecoder().decode(bytes), bytes);
}

function rendered(text: string, bytes: Uint8Array): RenderedNarInfo {
  const hash = createSha256();
  hash.update(bytes);
  return { text, bytes, etag: `"${hash.digest().slice('sha256:'.length, 'sha256:'.length + 26)}"` };
}
