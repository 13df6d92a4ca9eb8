import { costTable } from '../../test/support/cost-table.ts';
import { REQUEST_COSTS, type RequestKind } from '../../test/support/request-costs.ts';
import { lambdaSeconds, millionOf, SET_UPS, totalOf, workerCpu } from './bill.ts';
import { costOf, PRICES } from './prices.ts';
import type { Price } from './prices.ts';
import { ASSUMED, EXAMPLES, indexGb, pathsOf, requestsOf, WORKER_CPU_MS } from './usage.ts';

/** Every table of `docs/costs.md`, by the name in its marks. */
export const COST_TABLES: Readonly<Record<string, () => string>> = {
  operations: () => costTable(REQUEST_COSTS),
  million: millionTable,
  'worker-cpu': workerCpuTable,
  prices: priceTable,
  examples: exampleTable,
  months: monthTables,
};

/** The kinds that a Worker has: it streams, and spools nothing. */
const ON_WORKERS: readonly RequestKind[] = [
  'narinfo, known',
  'narinfo, cold',
  'narinfo, unknown',
  'NAR, stored, through us',
  'NAR, cold, without a spool',
];
const ON_LAMBDA: readonly RequestKind[] = [
  'narinfo, known',
  'narinfo, cold',
  'narinfo, unknown',
  'NAR, stored, redirected',
  'NAR, cold, stored first and redirected to',
];

const MILLION = 1e6;

function millionTable(): string {
  const kinds = Object.keys(REQUEST_COSTS).filter((name): name is RequestKind => name in REQUEST_COSTS);
  const rows = kinds.map((kind) => {
    const requests = { [kind]: MILLION };
    const { s3, r2, d1, upstash } = millionOf(requests);
    const worker =
      costOf('workersRequests', 1, 'whole') + costOf('workersCpu', workerCpu(requests) / MILLION, 'whole');
    const lambda =
      costOf('lambdaRequests', 1, 'whole') +
      costOf('lambdaCompute', lambdaSeconds(requests) / MILLION, 'whole');
    return [
      kind,
      ...[s3, r2, d1, upstash].map(dollars),
      ON_WORKERS.includes(kind) ? dollars(worker) : '',
      ON_LAMBDA.includes(kind) ? dollars(lambda) : '',
    ];
  });
  return table(['a million of', 'S3', 'R2', 'D1', 'Upstash', 'Workers', 'Lambda'], rows);
}

function workerCpuTable(): string {
  const { narInfo, narInfoCold, nar, narMb, fill, fillMb, jobMb } = WORKER_CPU_MS;
  return table(
    ['request', 'ms of CPU', 'and for each MB'],
    [
      ['narinfo, known', String(narInfo), ''],
      ['narinfo, cold or unknown', String(narInfoCold), ''],
      ['NAR, stored', String(nar), String(narMb)],
      ['NAR, cold', String(fill), String(fillMb)],
      ['job: the hash of an xz NAR', '', String(jobMb)],
    ],
  );
}

function priceTable(): string {
  const rows = Object.values(PRICES).map((price) => [
    `${price.service}: ${price.what}`,
    price.unit,
    stepsOf(price),
    price.included === 0 ? '' : number(price.included),
    price.source,
    price.seen ?? 'to be checked',
  ]);
  return table(['what', 'unit', 'US $', 'included a month', 'source', 'as of'], rows);
}

function stepsOf({ steps }: Price): string {
  const texts = steps.map(({ upTo, usd }, at) => {
    if (steps.length === 1) return String(usd);
    const before = at === 0 ? 0 : (steps[at - 1]?.upTo ?? 0);
    return upTo === Infinity ? `${usd} beyond ${number(before)}` : `${usd} up to ${number(upTo)}`;
  });
  return texts.join(', ');
}

function exampleTable(): string {
  const rows = EXAMPLES.map((example) => {
    const requests = requestsOf(example, 'proxy');
    const nars = (example.outGb * 1000) / ASSUMED.narMb;
    return [
      example.name,
      `${number(example.storedGb)} GB`,
      `${number(example.outGb)} GB`,
      `${number(example.newGb)} GB`,
      `${number(nars / MILLION)} million`,
      `${number((Object.values(requests).reduce((sum, count) => sum + count, 0) - nars) / MILLION)} million`,
      `${number(pathsOf(example) / MILLION)} million, ${number(indexGb(example))} GB`,
    ];
  });
  return table(['', 'stored', 'out a month', 'of it new', 'NARs', 'narinfos', 'paths in the index'], rows);
}

function monthTables(): string {
  return EXAMPLES.map((example) => {
    const rows = SET_UPS.map(({ name, bill }) => {
      const month = bill(example);
      if (month === null) return [name, '', '', '', '', '', '', 'does not carry it'];
      const { compute, storage, operations, database, locks, egress } = month;
      const parts = [compute, storage, operations, database, locks, egress].map(dollars);
      return [name, ...parts, `**${dollars(totalOf(month))}**`];
    });
    const heads = ['', 'compute', 'storage', 'its requests', 'database', 'locks', 'data out', 'a month'];
    return `### ${example.name}\n\n${table(heads, rows)}`;
  }).join('\n\n');
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  return [heads, heads.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function dollars(amount: number): string {
  if (amount === 0) return '0';
  if (amount < 0.01) return '< $0.01';
  return `$${amount < 100 ? amount.toFixed(2) : number(Math.round(amount))}`;
}

/** At most three digits after the point, with commas between thousands. */
function number(value: number): string {
  const [whole = '', rest] = String(Number(value.toFixed(value >= 100 ? 0 : 2))).split('.');
  const grouped = whole.replaceAll(/\B(?=(\d{3})+$)/g, ',');
  return rest === undefined ? grouped : `${grouped}.${rest}`;
}
