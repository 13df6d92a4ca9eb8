import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { d1Rows, millionOf, SET_UPS, totalOf } from '../../../scripts/costs/bill.ts';
import { costOf, PRICES } from '../../../scripts/costs/prices.ts';
import { COST_TABLES } from '../../../scripts/costs/tables.ts';
import { EXAMPLES, operationsOf, requestsOf } from '../../../scripts/costs/usage.ts';
import { REQUEST_COSTS } from '../../support/request-costs.ts';

describe('docs/costs.md', () => {
  it.each(Object.entries(COST_TABLES))(
    'has the table %s as it is computed (npm run docs:costs)',
    async (name, table) => {
      const text = await readFile(new URL('../../../docs/costs.md', import.meta.url), 'utf8');
      const [, after = ''] = text.split(`<!-- ${name}: begin`);
      const [between = ''] = after.split(`<!-- ${name}: end -->`);
      expect(between.slice(between.indexOf('\n')).trim()).toBe(table());
    },
  );

  it('says of every price where it is from, and when it was seen or that it is to be checked', () => {
    for (const { source, seen, steps } of Object.values(PRICES)) {
      expect(source).not.toBe('');
      expect(seen ?? '2026-11').toMatch(/^2026-(0[1-9]|1[0-2])$/);
      expect(steps.at(-1)?.upTo).toBe(Infinity);
    }
  });
});

describe('the arithmetic of costs', () => {
  it('adds up what law 11 asserts of each request', () => {
    const { storage, index, locks } = operationsOf({
      'narinfo, known': 10,
      'NAR, stored, through us': 5,
      'NAR, cold, without a spool': 2,
    });
    const cold = REQUEST_COSTS['NAR, cold, without a spool'];
    const twice = (counts: Readonly<Record<string, number>>): Record<string, number> =>
      Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, 2 * count]));
    const colds = twice(cold.storage);
    expect(storage).toEqual({ ...colds, get: (colds['get'] ?? 0) + 5 });
    const coldIndex = twice(cold.index);
    expect(index).toEqual({ ...coldIndex, getPath: (coldIndex['getPath'] ?? 0) + 10 });
    expect(locks).toBe(2 * cold.locks);
  });

  it('takes a million stored NARs for a million reads, and redirects for as many looks', () => {
    expect(millionOf({ 'NAR, stored, through us': 1e6 })).toEqual({ s3: 0.4, r2: 0.36, d1: 0, upstash: 0 });
    expect(millionOf({ 'NAR, stored, redirected': 1e6 })).toEqual({ s3: 0.4, r2: 0.36, d1: 0, upstash: 0 });
    expect(millionOf({ 'narinfo, known': 1e6 })).toEqual({ s3: 0, r2: 0, d1: 0.003, upstash: 0 });
  });

  it('counts the rows of D1, those of locks where they are in it', () => {
    const operations = { storage: {}, index: { getPath: 2, markPresent: 1 }, locks: 2 };
    expect(d1Rows(operations, false)).toEqual({ read: 12, written: 4 });
    expect(d1Rows(operations, true)).toEqual({ read: 14, written: 7 });
    expect(() => d1Rows({ storage: {}, index: { unheardOf: 1 }, locks: 0 }, false)).toThrow(/unheardOf/);
  });

  it('takes off what is included, and goes by steps', () => {
    expect(costOf('s3Egress', 100)).toBe(0);
    expect(costOf('s3Egress', 1_100)).toBeCloseTo(90);
    expect(costOf('s3Egress', 50_100)).toBeCloseTo(10_000 * 0.09 + 40_000 * 0.085);
    expect(costOf('s3Egress', 1_000_100)).toBeCloseTo(900 + 3_400 + 7_000 + 850_000 * 0.05);
    expect(costOf('r2ClassB', 1, 'whole')).toBe(0.36);
    expect(costOf('r2ClassB', 10)).toBe(0);
  });

  it('shares the NARs of a month among hits and fills, whichever way they are delivered', () => {
    for (const example of EXAMPLES) {
      for (const delivery of ['proxy', 'redirect'] as const) {
        const requests = requestsOf(example, delivery);
        const nars = Object.entries(requests).filter(([kind]) => kind.startsWith('NAR'));
        expect(nars).toHaveLength(2);
        expect(nars.reduce((sum, [, count]) => sum + count, 0)).toBeCloseTo(example.outGb * 1000);
      }
    }
  });

  it('makes a bill for every set-up that carries an example, and none less for more', () => {
    for (const { name, bill } of SET_UPS) {
      const totals = EXAMPLES.map(bill).map((month) => (month === null ? null : totalOf(month)));
      expect(totals[0], name).toBeGreaterThan(0);
      const carried = totals.filter((total) => total !== null);
      expect(carried, name).toEqual(carried.toSorted((a, b) => a - b));
    }
    const d1 = SET_UPS.find(({ name }) => name.includes('D1'));
    expect(EXAMPLES.map((example) => d1?.bill(example) === null)).toEqual([false, false, true]);
  });
});
