import { costOf } from './prices.ts';
import {
  ASSUMED,
  D1_ROWS,
  indexGb,
  MOST_PATHS_IN_D1,
  operationsOf,
  pathsOf,
  requestsOf,
  uploadsOf,
  WORKER_CPU_MS,
} from './usage.ts';
import type { Example, Operations, Requests } from './usage.ts';

const MILLION = 1e6;
const HOURS = 730;

/** A month's bill in dollars; null: this set-up does not carry it. */
export interface Bill {
  readonly compute: number;
  readonly storage: number;
  /** Requests to the store. */
  readonly operations: number;
  readonly database: number;
  readonly locks: number;
  readonly egress: number;
}

export interface SetUp {
  readonly name: string;
  bill(example: Example): Bill | null;
}

/** Rows that D1 reads and writes. */
export function d1Rows(
  { index, locks }: Operations,
  lockedInIt: boolean,
): { readonly read: number; readonly written: number } {
  const operations = lockedInIt ? { ...index, lock: locks } : index;
  let [read, written] = [0, 0];
  for (const [name, count] of Object.entries(operations)) {
    const rows = D1_ROWS[name];
    if (rows === undefined) throw new Error(`Nobody counted the rows of ${name} in D1`);
    read += rows.read * count;
    written += rows.written * count;
  }
  return { read, written };
}

/** Milliseconds of CPU that Workers take. */
export function workerCpu(requests: Requests): number {
  const cpu = WORKER_CPU_MS;
  const nar = cpu.nar + cpu.narMb * ASSUMED.narMb;
  const fill = cpu.fill + cpu.fillMb * ASSUMED.narMb;
  return (
    (requests['narinfo, known'] ?? 0) * cpu.narInfo +
    ((requests['narinfo, cold'] ?? 0) + (requests['narinfo, unknown'] ?? 0)) * cpu.narInfoCold +
    (requests['NAR, stored, through us'] ?? 0) * nar +
    (requests['NAR, cold, without a spool'] ?? 0) * fill
  );
}

/** GB-seconds that Lambda takes, at 1 GB. */
export function lambdaSeconds(requests: Requests): number {
  const ms = ASSUMED.lambdaMs;
  const fills = requests['NAR, cold, stored first and redirected to'] ?? 0;
  const milliseconds =
    (requests['narinfo, known'] ?? 0) * ms.narInfo +
    ((requests['narinfo, cold'] ?? 0) + (requests['narinfo, unknown'] ?? 0)) * ms.narInfoCold +
    (requests['NAR, stored, redirected'] ?? 0) * ms.redirect +
    fills * (ms.fill + ms.job);
  return milliseconds / 1000;
}

function countOf(requests: Requests): number {
  return Object.values(requests).reduce((sum, count) => sum + count, 0);
}

/** With the accesses that are written down beside. */
function monthOf(example: Example, delivery: 'proxy' | 'redirect'): readonly [Requests, Operations] {
  const requests = requestsOf(example, delivery);
  const { storage, index, locks } = operationsOf(requests);
  const touches = ((example.outGb * 1000) / ASSUMED.narMb) * example.touched;
  return [requests, { storage, index: { ...index, touch: touches }, locks }];
}

const fillsOf = ({ newGb }: Example): number => (newGb * 1000) / ASSUMED.narMb;

/** Workers before R2, without the database and locks. */
function workersAndR2(
  example: Example,
  requests: Requests,
  { storage }: Operations,
): Pick<Bill, 'compute' | 'storage' | 'operations' | 'egress'> {
  // Each new NAR is a job: an xz body is checked when it is stored. It reads the body once more.
  const jobs = fillsOf(example);
  const uploads = uploadsOf(example);
  const reads = (storage['get'] ?? 0) + (storage['head'] ?? 0) + uploads.heads + jobs;
  return {
    compute:
      costOf('workersPlan', 1) +
      costOf('workersRequests', (countOf(requests) + jobs) / MILLION) +
      costOf('workersCpu', (workerCpu(requests) + jobs * ASSUMED.narMb * WORKER_CPU_MS.jobMb) / MILLION) +
      costOf('queues', (3 * jobs) / MILLION),
    storage: costOf('r2Storage', example.storedGb),
    operations:
      costOf('r2ClassA', ((storage['put'] ?? 0) + uploads.puts) / MILLION) +
      costOf('r2ClassB', reads / MILLION),
    egress: costOf('r2Egress', example.outGb),
  };
}

function neon(example: Example): number {
  const [, { index }] = monthOf(example, 'proxy');
  const queries = Object.values(index).reduce((sum, count) => sum + count, 0);
  return (
    costOf('neonCompute', example.neonCu * HOURS) +
    costOf('neonStorage', indexGb(example)) +
    costOf('neonEgress', (queries * ASSUMED.indexAnswer) / 1e9)
  );
}

function rds(example: Example): number {
  // RDS has no less than 20 GB.
  return costOf(example.rds, HOURS) + costOf('rdsStorage', Math.max(20, 2 * indexGb(example)));
}

function lambdaAndS3(example: Example, database: number): Bill {
  const [requests, { storage, locks }] = monthOf(example, 'redirect');
  const count = countOf(requests);
  const jobs = fillsOf(example);
  const uploads = uploadsOf(example);
  // Clients fetch every NAR from the store itself.
  const nars = (example.outGb * 1000) / ASSUMED.narMb;
  const reads = (storage['get'] ?? 0) + (storage['head'] ?? 0) + uploads.heads + jobs + nars;
  return {
    compute:
      costOf('lambdaRequests', (count + jobs) / MILLION) +
      costOf('lambdaCompute', lambdaSeconds(requests) / MILLION),
    storage: costOf('s3Storage', example.storedGb),
    operations:
      costOf('s3Put', ((storage['put'] ?? 0) + uploads.puts) / MILLION) + costOf('s3Get', reads / MILLION),
    database,
    locks: costOf('upstash', locks / MILLION),
    egress: costOf('s3Egress', example.outGb + (count * ASSUMED.smallAnswer) / 1e9),
  };
}

export const SET_UPS: readonly SetUp[] = [
  {
    name: 'Workers, R2, D1',
    bill(example) {
      if (pathsOf(example) > MOST_PATHS_IN_D1) return null;
      const [requests, operations] = monthOf(example, 'proxy');
      const { read, written } = d1Rows(operations, true);
      return {
        ...workersAndR2(example, requests, operations),
        database:
          costOf('d1Read', read / MILLION) +
          costOf('d1Written', written / MILLION) +
          costOf('d1Storage', indexGb(example)),
        locks: 0,
      };
    },
  },
  {
    name: 'Workers, R2, Hyperdrive to Neon, Upstash',
    bill(example) {
      const [requests, operations] = monthOf(example, 'proxy');
      return {
        ...workersAndR2(example, requests, operations),
        database: neon(example),
        locks: costOf('upstash', operations.locks / MILLION),
      };
    },
  },
  { name: 'Lambda, S3, Neon, Upstash', bill: (example) => lambdaAndS3(example, neon(example)) },
  { name: 'Lambda, S3, RDS, Upstash', bill: (example) => lambdaAndS3(example, rds(example)) },
  {
    name: 'Node on a rented server, files, SQLite',
    bill: (example) => ({
      compute: costOf(example.server, 1),
      storage: 0,
      operations: 0,
      database: 0,
      locks: 0,
      egress: 0,
    }),
  },
];

/** All that a bill comes to. */
export function totalOf({ compute, storage, operations, database, locks, egress }: Bill): number {
  return compute + storage + operations + database + locks + egress;
}

/** Dollars for a million requests of one kind, without bytes: nothing is taken off for what is included. */
export function millionOf(requests: Requests): {
  readonly s3: number;
  readonly r2: number;
  readonly d1: number;
  readonly upstash: number;
} {
  const { storage, index, locks } = operationsOf(requests);
  const reads = ((storage['get'] ?? 0) + (storage['head'] ?? 0)) / MILLION;
  const puts = (storage['put'] ?? 0) / MILLION;
  const rows = d1Rows({ storage, index, locks }, false);
  return {
    s3: costOf('s3Get', reads, 'whole') + costOf('s3Put', puts, 'whole'),
    r2: costOf('r2ClassB', reads, 'whole') + costOf('r2ClassA', puts, 'whole'),
    d1: costOf('d1Read', rows.read / MILLION, 'whole') + costOf('d1Written', rows.written / MILLION, 'whole'),
    upstash: costOf('upstash', locks / MILLION, 'whole'),
  };
}
