import { type SQL, sql } from 'drizzle-orm';
import { ACCESS_STEPS, SIZE_STEPS, type Step } from './eviction-order.ts';

/** `evictionRank` in SQL: milliseconds, from integer expressions that are not null. Each is repeated for every step. */
export function rankOf(lastAccess: SQL, accesses: SQL, fileSize: SQL): SQL {
  return sql`${lastAccess} + ${bonusOf(ACCESS_STEPS, accesses)} + ${bonusOf(SIZE_STEPS, fileSize)}`;
}

function bonusOf(steps: readonly Step[], of: SQL): SQL {
  const whens = steps
    .toReversed()
    .map(({ from, bonusMs }) => sql`when ${of} >= ${sql.raw(String(from))} then ${sql.raw(String(bonusMs))}`);
  return sql`case ${sql.join(whens, sql` `)} else 0 end`;
}
