import { expect } from 'vitest';
import { GRACE_MS } from '../../../src/cache/evict/eviction-run.ts';
import type { EvictionReport } from '../../../src/cache/evict/report.ts';
import { verifyCache } from '../../../src/cache/verify/verify.ts';
import { storedBytes } from '../../../src/cache/stored-bytes.ts';
import { download } from '../../support/download.ts';
import type { Model, Seen } from './model.ts';
import type { System } from './system.ts';

/** After every command: what must hold at any instant at which nothing is under way, whatever died before. */
export async function checkBucket(model: Model, system: System): Promise<void> {
  const before = model.seen;
  const now = system.clock.now();
  model.latest = Math.max(model.latest, now);
  const seen = await look(system);
  const faults: string[] = [];
  const sizes = new Map([...model.world.values()].map(({ url, body }) => [url, body.length]));
  for (const [key, size] of seen.nars) {
    if (size !== sizes.get(key)) faults.push(`${key} has ${size} bytes, not ${sizes.get(key)}`);
  }
  for (const { name, hash, url } of model.world.values()) {
    if (seen.narInfos.has(hash) && !seen.nars.has(url))
      faults.push(`the narinfo of ${name} is without its NAR`);
    if (model.pinned().has(name) && before.nars.has(url) && !seen.nars.has(url))
      faults.push(`${name} was pinned`);
  }
  model.seen = seen;
  for (const name of model.pushed.keys()) {
    if (model.isStored(name)) continue;
    if (!model.path(name).obtainable && !model.isOldEnough(name, now))
      faults.push(`${name} was pushed, and is lost`);
    model.pushed.delete(name);
  }
  for (const name of model.pushed.keys()) {
    for (const reference of model.path(name).references) {
      if (!model.path(reference).obtainable && !model.isStored(reference)) {
        faults.push(`${name} was pushed and refers to ${reference}, which is gone`);
      }
    }
  }
  expect(faults).toEqual([]);
  if (!model.unsettled) await checkTotals(model, system);
}

/** The index counts just what is stored. */
async function checkTotals(model: Model, system: System): Promise<void> {
  const { metadata } = system.cache().services;
  const bytes = [...model.seen.nars.values()].reduce((sum, size) => sum + size, 0);
  expect(await metadata.totals()).toEqual({ presentBytes: bytes, presentNars: model.seen.nars.size });
}

/** What an eviction that came to its end leaves. */
export async function checkEviction(model: Model, system: System, report: EvictionReport): Promise<void> {
  const { outcome, after, target, limit, kept } = report;
  const now = system.clock.now();
  const { presentBytes } = await system.cache().services.metadata.totals();
  expect(presentBytes).toBe(after.presentBytes);
  if (outcome === 'within_limit') expect(presentBytes).toBeLessThanOrEqual(limit);
  else if (outcome === 'reached') expect(presentBytes).toBeLessThanOrEqual(target);
  else {
    expect(outcome).toBe('kept');
    expect(kept).not.toBeNull();
    const { pinned, inUse, recent, pushed } = kept ?? { pinned: 0, inUse: 0, recent: 0, pushed: 0 };
    expect(pinned + inUse + recent + pushed).toBeGreaterThanOrEqual(presentBytes);
    expect(inUse).toBe(0);
    const names = [...model.world.keys()];
    const wrongly: string[] = [];
    for (const nar of (await system.drivers().index.upkeep.listNars(0, 1000)).filter(isPresent)) {
      const claiming = names.filter((name) => model.path(name).url === nar.key);
      if (claiming.some((name) => model.mayStay(name, now, GRACE_MS))) continue;
      wrongly.push(`${claiming.join(', ')}: ${JSON.stringify(nar)}`);
    }
    // A connection is closed a moment after its client has all of the body.
    const disturbed = report.passedOver.in_use.nars + report.passedOver.lost.nars;
    const facts = JSON.stringify({ now, report });
    expect(wrongly.length, `${wrongly.join('\n')} should have been evicted: ${facts}`).toBeLessThanOrEqual(
      disturbed,
    );
  }
}

/** Compares the whole, puts right what crashes have left, and finds nothing the next time. */
export async function checkSettled(model: Model, system: System): Promise<void> {
  const { services } = system.cache();
  // Objects are as old as the real clock says: all of them are old enough.
  const graceMs = system.clock.now() - Date.now() - 1000;
  const options = { graceMs, restart: true, content: true };
  await verifyCache(services, { ...options, repair: true });
  await system.settled();
  const { finished, findings } = await verifyCache(services, options);
  expect(finished).toBe(true);
  // A push that died may have left a path whose references went before anybody knew it.
  expect(findings.filter(({ kind }) => kind !== 'dangling reference')).toEqual([]);
  model.unsettled = false;
}

/** Each body of the bucket, byte for byte. */
export async function checkBodies(model: Model, system: System): Promise<void> {
  for (const { name, url, body } of model.world.values()) {
    if (!model.seen.nars.has(url)) continue;
    const bytes = await storedBytes(system.drivers().storage, url, 10_000_000);
    expect(bytes !== null && Buffer.from(bytes).equals(body), `the body of ${name}`).toBe(true);
  }
}

/** A path as a client asks for it: its narinfo, then its NAR. @returns the statuses, and whether the whole is right */
export async function fetchPath(
  system: System,
  { hash, url, body }: { readonly hash: string; readonly url: string; readonly body: Uint8Array },
): Promise<{ readonly narInfo: number; readonly nar: number; readonly whole: boolean }> {
  const origin = system.cache().url;
  const narInfo = await download(`${origin}/${hash}.narinfo`);
  const nar = await download(`${origin}/${url}`);
  const whole = nar.status === 200 && nar.ended === 'clean' && nar.bytes.equals(body);
  return { narInfo: narInfo.status, nar: nar.status, whole };
}

async function look(system: System): Promise<Seen> {
  const nars = new Map<string, number>();
  const narInfos = new Set<string>();
  for await (const { key, size } of system.drivers().storage.list('')) {
    if (key.startsWith('nar/')) nars.set(key, size);
    if (key.endsWith('.narinfo')) narInfos.add(key.slice(0, -'.narinfo'.length));
  }
  return { nars, narInfos };
}

const isPresent = ({ state }: { readonly state: string }): boolean => state === 'present';
