import type { ByteRange } from '../storage/blob-store.ts';

const RANGE = /^bytes=(\d{0,15})-(\d{0,15})$/i;

/**
 * The range of a `Range` header (RFC 9110 §14.2). Null where it is to be ignored: another unit, several ranges,
 * or nonsense, all of which get the whole body.
 */
export function parseRange(header: string | undefined): ByteRange | null {
  const [, first, last] = RANGE.exec(header?.trim() ?? '') ?? [];
  if (first === undefined || last === undefined) return null;
  if (first === '') return last === '' ? null : { suffix: Number(last) };
  const start = Number(first);
  if (last === '') return { start };
  const end = Number(last);
  return end < start ? null : { start, end };
}

/**
 * Whether a range may be given under this `If-Range` (RFC 9110 §13.1.5): the entity tag must match strongly. A
 * date never matches: bodies of one URL never change, so we keep none.
 */
export function ifRangeHolds(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === etag;
}

/** Whether one of the tags of an `If-None-Match` matches, weakly (RFC 9110 §13.1.2). */
export function ifNoneMatchHits(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  return header.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);
}
