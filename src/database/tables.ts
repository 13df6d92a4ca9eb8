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
  | 'accesses'
  | 'pushed'
  | 'evictRank'
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

export type PinColumn = 'id' | 'name' | 'nodeId' | 'storePath' | 'createdAt' | 'expiresAt';

export type BanColumn = 'hash' | 'storePath' | 'reason' | 'bannedAt';

/** Number of rows of `size_counters`. A NAR is counted in the one that its id modulo this number names. */
export const COUNTER_SHARDS: number = 16;
