/** A public list price in US dollars, without tax. */
export interface Price {
  readonly service: string;
  readonly what: string;
  /** What one unit is, as `million requests`. */
  readonly unit: string;
  /** Dollars for one unit; several steps where more is cheaper. */
  readonly steps: readonly Step[];
  /** Units of each month that are not paid for. */
  readonly included: number;
  /** The page that has it. */
  readonly source: string;
  /** When that page said so, as `2026-11`; null: not read for this page, to be checked. */
  readonly seen: string | null;
}

/** Up to so many units in all, the last step without an end, at so many dollars each. */
export interface Step {
  readonly upTo: number;
  readonly usd: number;
}

export type PriceName =
  | 'r2Storage'
  | 'r2ClassA'
  | 'r2ClassB'
  | 'r2Egress'
  | 'workersPlan'
  | 'workersRequests'
  | 'workersCpu'
  | 'queues'
  | 'd1Read'
  | 'd1Written'
  | 'd1Storage'
  | 'hyperdrive'
  | 's3Storage'
  | 's3Put'
  | 's3Get'
  | 's3Egress'
  | 'lambdaRequests'
  | 'lambdaCompute'
  | 'lambdaStreamed'
  | 'upstash'
  | 'neonCompute'
  | 'neonStorage'
  | 'neonEgress'
  | 'rdsMicro'
  | 'rdsMedium'
  | 'rdsLarge'
  | 'rdsStorage'
  | 'serverSmall'
  | 'serverMedium'
  | 'serverLarge';

interface Terms {
  readonly included?: number;
  readonly seen?: string;
}

function price(
  [service, what, unit]: readonly [string, string, string],
  cost: number | readonly Step[],
  source: string,
  { included = 0, seen }: Terms = {},
): Price {
  const steps = typeof cost === 'number' ? [{ upTo: Infinity, usd: cost }] : cost;
  return { service, what, unit, steps, included, source, seen: seen ?? null };
}

const R2 = 'developers.cloudflare.com/r2/pricing';
const WORKERS = 'developers.cloudflare.com/workers/platform/pricing';
const D1 = 'developers.cloudflare.com/d1/platform/pricing';
const S3 = 'aws.amazon.com/s3/pricing, us-east-1';
const LAMBDA = 'aws.amazon.com/lambda/pricing, us-east-1, arm64';
const RDS = 'aws.amazon.com/rds/postgresql/pricing, us-east-1';

export const PRICES: Readonly<Record<PriceName, Price>> = {
  r2Storage: price(['R2', 'storage', 'GB-month'], 0.015, R2, { included: 10, seen: '2026-08' }),
  r2ClassA: price(['R2', 'class A: put, list, part', 'million'], 4.5, R2, { included: 1, seen: '2026-08' }),
  r2ClassB: price(['R2', 'class B: get, head', 'million'], 0.36, R2, { included: 10, seen: '2026-08' }),
  r2Egress: price(['R2', 'data out', 'GB'], 0, R2, { seen: '2026-08' }),
  workersPlan: price(['Workers', 'paid plan', 'month'], 5, WORKERS, { seen: '2026-08' }),
  workersRequests: price(['Workers', 'requests', 'million'], 0.3, WORKERS, {
    included: 10,
    seen: '2026-08',
  }),
  workersCpu: price(['Workers', 'CPU time', 'million ms'], 0.02, WORKERS, { included: 30, seen: '2026-08' }),
  queues: price(['Queues', 'operations, three a job', 'million'], 0.4, WORKERS, { included: 1 }),
  d1Read: price(['D1', 'rows read', 'million'], 0.001, D1, { included: 25_000, seen: '2026-08' }),
  d1Written: price(['D1', 'rows written', 'million'], 1, D1, { included: 50, seen: '2026-08' }),
  d1Storage: price(['D1', 'storage', 'GB-month'], 0.75, D1, { included: 5, seen: '2026-08' }),
  hyperdrive: price(['Hyperdrive', 'queries', 'million'], 0, WORKERS),
  s3Storage: price(
    ['S3', 'storage, Standard', 'GB-month'],
    [
      { upTo: 50_000, usd: 0.023 },
      { upTo: 500_000, usd: 0.022 },
      { upTo: Infinity, usd: 0.021 },
    ],
    S3,
  ),
  s3Put: price(['S3', 'PUT, LIST, POST', 'million'], 5, S3),
  s3Get: price(['S3', 'GET, HEAD', 'million'], 0.4, S3),
  s3Egress: price(
    ['S3, Lambda', 'data out to the internet', 'GB'],
    [
      { upTo: 10_000, usd: 0.09 },
      { upTo: 50_000, usd: 0.085 },
      { upTo: 150_000, usd: 0.07 },
      { upTo: Infinity, usd: 0.05 },
    ],
    S3,
    { included: 100 },
  ),
  lambdaRequests: price(['Lambda', 'requests', 'million'], 0.2, LAMBDA, { included: 1, seen: '2026-09' }),
  lambdaCompute: price(['Lambda', 'memory and time', 'million GB-s'], 13.3334, LAMBDA, { included: 0.4 }),
  lambdaStreamed: price(['Lambda', 'streamed beyond 6 MB an answer', 'GB'], 0.008, LAMBDA, {
    included: 100,
  }),
  upstash: price(['Upstash Redis', 'commands', 'million'], 2, 'upstash.com/pricing/redis', {
    seen: '2026-11',
  }),
  neonCompute: price(['Neon', 'compute, Launch', 'CU-hour'], 0.106, 'neon.com/docs/introduction/plans', {
    seen: '2026-11',
  }),
  neonStorage: price(['Neon', 'storage', 'GB-month'], 0.35, 'neon.com/docs/introduction/plans', {
    seen: '2026-11',
  }),
  neonEgress: price(['Neon', 'data out', 'GB'], 0.1, 'neon.com/docs/introduction/plans', {
    included: 100,
    seen: '2026-03',
  }),
  rdsMicro: price(['RDS', 'db.t4g.micro, one zone', 'hour'], 0.016, RDS),
  rdsMedium: price(['RDS', 'db.t4g.medium, one zone', 'hour'], 0.065, RDS),
  rdsLarge: price(['RDS', 'db.m7g.large, one zone', 'hour'], 0.168, RDS),
  rdsStorage: price(['RDS', 'storage, gp3', 'GB-month'], 0.115, RDS),
  serverSmall: price(
    ['A rented server', '4 cores, 8 GB, 320 GB SSD, 20 TB out', 'month'],
    20,
    'a guess: put in your provider’s',
  ),
  serverMedium: price(
    ['A rented server', '8 cores, 64 GB, 2 × 4 TB NVMe, 1 Gbit/s unmetered', 'month'],
    130,
    'a guess: put in your provider’s',
  ),
  serverLarge: price(
    ['A rented server', '16 cores, 128 GB, 24 TB SSD, 10 Gbit/s with its traffic', 'month'],
    1500,
    'a guess: put in your provider’s',
  ),
};

/** Dollars for so many units in a month, beyond what is included unless `whole`. */
export function costOf(name: PriceName, units: number, whole: 'whole' | 'beyond' = 'beyond'): number {
  const { steps, included } = PRICES[name];
  let left = Math.max(0, units - (whole === 'whole' ? 0 : included));
  let from = 0;
  let dollars = 0;
  for (const { upTo, usd } of steps) {
    const here = Math.min(left, upTo - from);
    dollars += here * usd;
    left -= here;
    from = upTo;
  }
  return dollars;
}
