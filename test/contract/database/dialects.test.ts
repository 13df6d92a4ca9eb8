import { afterAll, describe } from 'vitest';
import type { IndexStore } from '../../../src/database/index-store.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import { mysqlMissing, startMysql } from '../../support/mysql-server.ts';
import { postgresMissing, startPostgres } from '../../support/postgres-server.ts';
import type { IndexPlace } from './metadata-store.contract.ts';
import { testModel } from './model.contract.ts';
import { mysqlPlaces } from './mysql-place.ts';
import { postgresPlaces } from './postgres-place.ts';

/** Operations that promise no order of what they give. */
const UNORDERED: ReadonlySet<string> = new Set(['references', 'closure']);

/** An answer as text, without the ids, which each database gives as it likes. */
function comparable(operation: string, answer: unknown): string {
  const ordered =
    UNORDERED.has(operation) && Array.isArray(answer)
      ? answer.map(String).toSorted((one, other) => (one < other ? -1 : 1))
      : answer;
  return JSON.stringify(ordered, (name, value: unknown) => (name === 'id' ? undefined : value)) ?? 'nothing';
}

type Operation = (...args: readonly unknown[]) => Promise<unknown>;

/**
 * One index that is several: does everything in each, and fails where they answer differently. Errors count by
 * their class only.
 */
function together(stores: ReadonlyMap<string, IndexStore>): IndexStore {
  const [first] = stores.values();
  if (first === undefined) throw new Error('No store was given');
  return new Proxy(first, {
    get(target, name) {
      const own: unknown = Reflect.get(target, name);
      if (typeof own !== 'function' || typeof name !== 'string') return own;
      return async (...args: readonly unknown[]) => {
        const results = await Promise.allSettled(
          [...stores.values()].map((store) => (Reflect.get(store, name) as Operation)(...args)),
        );
        const answers = results.map((result) =>
          result.status === 'fulfilled' ? comparable(name, result.value) : String(result.reason).slice(0, 13),
        );
        if (new Set(answers).size > 1) {
          const each = [...stores.keys()].map((dialect, at) => `${dialect}: ${answers[at]}`);
          throw new Error(`${name} is answered differently\n${each.join('\n')}`);
        }
        const [result] = results;
        if (result?.status === 'rejected') throw result.reason;
        return result?.value;
      };
    },
  });
}

const missing = postgresMissing() ?? mysqlMissing();

describe.skipIf(missing !== null)(`The dialects${missing === null ? '' : `: ${missing}`}`, async () => {
  if (missing !== null) return;
  const [postgres, mysql] = await Promise.all([startPostgres(), startMysql()]);
  afterAll(() => Promise.all([postgres.stop(), mysql.stop()]));
  const [inPostgres, inMysql] = [postgresPlaces(postgres), mysqlPlaces(mysql)];

  async function create(): Promise<IndexPlace> {
    const [one, other] = [await inPostgres(), await inMysql()];
    return {
      async open() {
        return together(
          new Map([
            ['SQLite', await createSqliteStore({ path: ':memory:' })],
            ['PostgreSQL', await one.open()],
            ['MariaDB', await other.open()],
          ]),
        );
      },
      async remove() {
        await Promise.all([one.remove(), other.remove()]);
      },
    };
  }

  describe('SQLite, PostgreSQL and MariaDB answer alike', () => {
    testModel({ name: 'all', create }, 40);
  });
});
