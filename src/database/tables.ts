/**
 * The columns of the tables by the names that the schemas of all dialects give them. What they mean is said in
 * `src/database/sqlite/schema.ts`.
 */
export type NarColumn =
  | 'id'
  | 'key'
  | 'compression'
  | 'fileHash'
  | 'fileSize'
  | 'sourceUpstream'
  | 'sourceUrl'
  | 'state'
  | 'verification'
  | 'generation'
  | 'lastAccess'
  | 'quarantineReason';

export type PathColumn =
  | 'id'
  | 'nodeId'
  | 'narId'
  | 'storePath'
  | 'narHash'
  | 'narSize'
  | 'references'
  | 'deriver'
  | 'ca'
  | 'signatures'
  | 'extra'
  | 'justification'
  | 'justifiedBy'
  | 'origin'
  | 'revision'
  | 'recordedAt';

/** Number of rows of `size_counters`. A NAR is counted in the one that its id modulo this number names. */
export const COUNTER_SHARDS: number = 16;
