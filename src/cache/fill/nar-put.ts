import type { PutOptions } from '../../storage/blob-store.ts';

/** How a NAR is put: the first one wins (law 3), and an upstream has it still. Labelled as Nix itself does it. */
export const NAR_PUT: Pick<PutOptions, 'contentType' | 'ifAbsent' | 'mayVanish'> = {
  contentType: 'application/x-nix-nar',
  ifAbsent: true,
  mayVanish: true,
};
