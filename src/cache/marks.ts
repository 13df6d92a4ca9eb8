/** Facts that outlive a run, kept in the index under these names (`UpkeepStore.setMark`). */

/** Set while the index is rebuilt from the bucket or copied from another: nothing is evicted then. */
export const REBUILDING_MARK = 'rebuilding';
/** Where a rebuild goes on. */
export const REINDEX_MARK = 'reindex';
/** Where a verification goes on. */
export const VERIFY_MARK = 'verify';
/** Where the copy of another index goes on that this one is to become. */
export const COPY_MARK = 'copy';
