import { NOW, BLOCK } from './index/population.ts';
import { type IndexSubject, type IndexUnderTest, SUBJECTS } from './index/subjects.ts';
import { median } from './rows.ts';

/** How the index does with many paths: `npm run bench:index [-- paths…]`. */
const SIZES = process.argv.slice(2).map(Number).filter(Boolean);
const DEFAULT_SIZES = [10_000, 1_000_000];
const LARGE = 100_000;
const HITS = 3000;
const EVICTED = 50_000;
/** As an eviction takes them. */
const PAGE = 200;
const EVICTION_LIMIT_MS = 60_000;
const MEMORY_LIMIT_BYTES = 200 * 2 ** 20;

interface Figures {
  readonly hitMs: number;
  readonly slowHitMs: number;
  readonly evictionMs: number;
  readonly evicted: number;
  readonly closureMs: number;
  readonly closurePaths: number;
  readonly totalsMs: number;
}

let missed = 0;

async function main(): Promise<void> {
  say('index of     paths      hit    99 %   totals   closure of  in    evicting     in   (times in ms)');
  for (const subject of SUBJECTS) {
    if (subject.missing !== null) {
      say(`${subject.name}: left out, ${subject.missing}`);
      continue;
    }
    for (const paths of SIZES.length > 0 ? SIZES : DEFAULT_SIZES) await measured(subject, paths);
  }
  const peak = process.resourceUsage().maxRSS * 1024;
  judge(peak <= MEMORY_LIMIT_BYTES, `this process took ${Math.round(peak / 2 ** 20)} MiB at most, of 200`);
  if (missed > 0) process.exitCode = 1;
}

async function measured(subject: IndexSubject, paths: number): Promise<void> {
  const index = await subject.open(paths);
  try {
    // A table of a few pages is rightly read as a whole.
    if (paths >= LARGE) await assertPlans(subject, index);
    const figures = await measure(index, paths);
    say(
      [
        subject.name.padEnd(11),
        String(paths).padStart(8),
        figures.hitMs.toFixed(3).padStart(8),
        figures.slowHitMs.toFixed(3).padStart(7),
        figures.totalsMs.toFixed(2).padStart(8),
        String(figures.closurePaths).padStart(11),
        figures.closureMs.toFixed(0).padStart(6),
        String(figures.evicted).padStart(9),
        figures.evictionMs.toFixed(0).padStart(8),
      ].join(' '),
    );
    judge(figures.hitMs <= subject.hitLimitMs, `a hit takes at most ${subject.hitLimitMs} ms`);
    judge(figures.evictionMs <= EVICTION_LIMIT_MS, 'the database part of an eviction takes at most 60 s');
  } finally {
    await index.close();
  }
}

async function measure({ store }: IndexUnderTest, paths: number): Promise<Figures> {
  const page = await store.listPaths(Math.floor(paths / 2), 500);
  const hashes = page.map(({ path }) => path.hash);
  const hits: number[] = [];
  for (let nth = 0; nth < HITS; nth += 1) {
    const hash = hashes[(nth * 7919) % hashes.length] ?? '';
    hits.push(await timed(() => store.getPath(hash)));
  }
  const totals: number[] = [];
  for (let nth = 0; nth < 20; nth += 1) totals.push(await timed(() => store.totals()));
  const [first] = await store.listPaths(0, 1);
  let closurePaths = 0;
  const closureMs = await timed(async () => {
    closurePaths = (await store.closure([first?.path.hash ?? ''])).length;
  });
  if (closurePaths !== Math.min(paths, BLOCK)) throw new Error(`The closure has ${closurePaths} paths`);
  let evicted = 0;
  const evictionMs = await timed(async () => {
    evicted = await evict(store, Math.min(EVICTED, Math.floor(paths / 2)));
  });
  const sorted = hits.toSorted((left, right) => left - right);
  return {
    hitMs: median(hits),
    slowHitMs: sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN,
    evictionMs,
    evicted,
    closureMs,
    closurePaths,
    totalsMs: median(totals),
  };
}

/** What an eviction asks of the index, without the bodies. */
async function evict({ upkeep }: IndexUnderTest['store'], count: number): Promise<number> {
  let gone = 0;
  while (gone < count) {
    const listed = await upkeep.listEvictable({
      pushed: false,
      after: null,
      accessedBefore: NOW + 1,
      now: NOW,
      limit: PAGE,
    });
    const marked = await upkeep.markEvicting(
      listed.map(({ nar }) => nar),
      NOW,
    );
    await upkeep.spareEvicting(marked, NOW);
    const finished = await upkeep.finishEvicting(marked);
    if (finished.length === 0) throw new Error('Nothing is left to evict');
    gone += finished.length;
  }
  return gone;
}

/** @throws Error where a statement reads a whole table */
async function assertPlans({ name }: IndexSubject, { store, reads, plan }: IndexUnderTest): Promise<void> {
  const [some] = await store.listPaths(0, 1);
  const hash = some?.path.hash ?? '';
  const page = { pushed: 0, afterRank: 1, afterId: 1, accessedBefore: NOW, now: NOW, limit: PAGE };
  const statements = {
    hit: reads.selectPath({ hash }),
    closure: reads.selectClosure({ hashes: JSON.stringify([hash]) }),
    eviction: reads.selectEvictable(page),
  };
  for (const [what, statement] of Object.entries(statements)) {
    const steps = await plan(statement);
    const scans = steps.filter((step) =>
      /\b(?:Seq Scan on|SCAN) (?:nars|paths|store_hashes|reference_edges|edge|claiming)\b/.test(step),
    );
    if (scans.length > 0) throw new Error(`${name}, ${what}: reads a whole table\n${steps.join('\n')}`);
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

function judge(met: boolean, what: string): void {
  if (!met) missed += 1;
  say(`  ${met ? 'met   ' : 'MISSED'}  ${what}`);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

await main();
