import type { Cost } from './cost-table.ts';

/** What can be asked for, and how it is answered. */
export type RequestKind =
  | 'narinfo, in memory'
  | 'narinfo, known'
  | 'narinfo, cold'
  | 'narinfo, unknown'
  | 'narinfo, unknown, asked for again'
  | 'NAR, stored, through us'
  | 'NAR, stored, redirected'
  | 'NAR, stored, HEAD'
  | 'NAR, cold, spooled'
  | 'NAR, cold, without a spool'
  | 'NAR, cold, stored first and redirected to'
  | 'NAR, cold, redirected to its upstream'
  | 'NAR, cold, filled by a job'
  | 'NAR, unknown';

/**
 * What each request costs, once and for all: the bill of object stores, databases and lock services. Law 11 is
 * asserted with these numbers, and `docs/costs.md` is computed from them.
 */
export const REQUEST_COSTS: Readonly<Record<RequestKind, Cost>> = {
  'narinfo, in memory': { storage: {}, index: {}, locks: 0, upstream: 0 },
  'narinfo, known': { storage: {}, index: { getPath: 1 }, locks: 0, upstream: 0 },
  'narinfo, cold': {
    storage: {},
    index: { getPath: 1, getNar: 1, recordPath: 1 },
    locks: 0,
    upstream: 1,
  },
  'narinfo, unknown': { storage: {}, index: { getPath: 1 }, locks: 0, upstream: 1 },
  'narinfo, unknown, asked for again': { storage: {}, index: { getPath: 1 }, locks: 0, upstream: 0 },
  'NAR, stored, through us': { storage: { get: 1 }, index: {}, locks: 0, upstream: 0 },
  'NAR, stored, redirected': { storage: { head: 1 }, index: {}, locks: 0, upstream: 0 },
  'NAR, stored, HEAD': { storage: { head: 1 }, index: {}, locks: 0, upstream: 0 },
  'NAR, cold, spooled': {
    storage: { get: 1, head: 1, put: 2 },
    index: { getNar: 2, getPath: 1, markPresent: 1 },
    locks: 2,
    upstream: 1,
  },
  'NAR, cold, without a spool': {
    storage: { get: 1, head: 1, put: 2 },
    index: { getNar: 2, getPath: 1, markPresent: 1 },
    locks: 2,
    upstream: 1,
  },
  'NAR, cold, stored first and redirected to': {
    storage: { head: 3, put: 2 },
    // The access is recorded after the answer, once an hour, where no process lives on to do it for many at once.
    index: { getNar: 2, getPath: 1, markPresent: 1, touch: 1 },
    locks: 2,
    upstream: 1,
  },
  'NAR, cold, redirected to its upstream': {
    storage: { head: 1 },
    index: { getNar: 1, getPath: 1 },
    locks: 0,
    upstream: 1,
  },
  'NAR, cold, filled by a job': {
    storage: { head: 1, put: 2 },
    index: { getNar: 2, getPath: 1, markPresent: 1 },
    locks: 2,
    upstream: 1,
  },
  'NAR, unknown': { storage: { get: 2 }, index: { getNar: 1 }, locks: 0, upstream: 1 },
};
