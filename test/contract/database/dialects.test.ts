import { afterAll, describe } from 'vitest';
import type { IndexStore } from '../../../src/database/index-store.ts';
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';
import type { UpkeepStore } from '../../../src/database/upkeep-store.ts';
import { mysqlMissing, startMysql } from '../../support/mysql-server.ts';
import { postgresMissing, startPostgres } from '../../support/postgres-server.ts';
import type { IndexPlace } from './metadata-store.contract.ts';
import { testModel } from './model.contract.ts';
import { mysqlPlaces } from './mysql-place.ts';
import { postgresPlaces } from './postgres-place.ts';

/** Operations that promise no order of what they give. */
const UNORDERED: ReadonlySet<string> = new Set(['references', 'closure', 'spareEvicting', 'finishEvicting']);
/** An answer as text, without the ids, which each database gives as it likes. */
function comparable(operation: string, answer: unknown): string {
  const ordered = UNORDERED.has(operation) ? sorted(answer) : answer;
  const text = JSON.stringify(ordered, (name, value: unknown) => {
    if (name === 'id') return undefined;
    // Those of the paths that claim a NAR, in no order.
    return name === 'hashes' ? sorted(value) : value;
  });
  return text ?? 'nothing';
}

/** A list of texts in their order; anything else as it is. */
function sorted(list: unknown): unknown {
  return Array.isArray(list) ? list.map(String).toSorted((one, other) => (one < other ? -1 : 1)) : list;
}

type Operation = (...args: readonly unknown[]) => Promise<unknown>;

/**
 * One index that is several: does everything in each, and fails where they answer differently. Errors count by
 * their class only.
 */
function together(stores: ReadonlyMap<string, IndexStore>): IndexStore {
  const index = inEach(stores);
  const upkeep = inEach(new Map([...stores].map(([dialect, store]) => [dialect, prunedInOne(store.upkeep)])));
  return new Proxy(index, {
    get: (target, name): unknown => (name === 'upkeep' ? upkeep : Reflect.get(target, name)),
  });
}

/** Page after page by its own ids, which are no ids of another database. */
function prunedInOne(upkeep: UpkeepStore): UpkeepStore {
  return {
    ...upkeep,
    async prunePaths(prune) {
      let removed = 0;
      let afterId: number | null = prune.afterId;
      while (afterId !== null) {
        const page = await upkeep.prunePaths({ ...prune, afterId });
        removed += page.removed;
        afterId = page.lastId;
      }
      return { lastId: null, removed };
    },
    async pruneOrphans(of, { limit }) {
      let removed = 0;
      let afterId: number | null = 0;
      while (afterId !== null) {
        const page = await upkeep.pruneOrphans(of, { afterId, limit });
        removed += page.removed;
        afterId = page.lastId;
      }
      return { lastId: null, removed };
    },
  };
}

function inEach<Store extends object>(stores: ReadonlyMap<string, Store>): Store {
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
    testModel({ name: 'all', create }, 15);
  });
});
