import { afterEach, beforeEach, expect, test } from 'vitest';
import { collect } from '../../../src/stream/byte-stream.ts';
import { silentLogger } from '../../../src/telemetry/logger.ts';
import { noMetrics } from '../../../src/telemetry/metrics.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { createUpstreams } from '../../../src/upstream/client.ts';
import type { Transport } from '../../../src/upstream/transport.ts';
import { createUndiciTransport } from '../../../src/upstream/undici-transport.ts';
import { parseUpstreamUrl } from '../../../src/upstream/upstream-url.ts';
import type { Upstreams } from '../../../src/upstream/upstreams.ts';
import { startFaultServer } from '../../support/fault-server.ts';
import type { FaultServer } from '../../support/fault-server.ts';
import { HASH, acceptAll, narInfoText } from './fakes.ts';

/** The client with the real transport, against servers that really fail. */
let good: FaultServer;
let bad: FaultServer;
let transport: Transport;
let upstreams: Upstreams;

beforeEach(async () => {
  good = await startFaultServer();
  bad = await startFaultServer();
  transport = createUndiciTransport({ userAgent: 'snowcap-test', lingerMs: 100 });
  upstreams = createUpstreams({
    upstreams: [parseUpstreamUrl(`${bad.url}?priority=1`), parseUpstreamUrl(`${good.url}?priority=2`)],
    transport,
    clock: systemClock,
    random: () => 0,
    logger: silentLogger,
    metrics: noMetrics,
    settings: { hedgeMs: 30, narInfoHeadersTimeoutMs: 1000, narInfoDeadlineMs: 3000, circuitOpenMs: 50 },
  });
});

afterEach(async () => {
  await upstreams.close();
  await transport.close();
  await Promise.all([good.close(), bad.close()]);
});

const narInfo = `/${HASH}.narinfo`;

test.each([
  ['is down', null],
  ['never answers', { stallAt: 'headers' }],
  ['resets', { resetAt: 'headers' }],
  ['truncates', { body: narInfoText(), truncateAt: 50 }],
  ['stalls within the body', { body: narInfoText(), stallAt: 50 }],
  ['answers 500', { status: 500 }],
  ['sends something else', { body: '<html>' }],
] as const)('A path is found although the best upstream %s', async (_name, behaviour) => {
  if (behaviour === null) await bad.down();
  else bad.route(narInfo, behaviour);
  good.route(narInfo, { body: narInfoText() });
  expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ kind: 'found', upstream: good.url });
  if (behaviour === null) await bad.up();
});

test('500 and then 200 is found', async () => {
  bad.route(narInfo, [{ status: 500 }, { body: narInfoText(), truncateAt: 9 }, { body: narInfoText() }]);
  expect(await upstreams.findNarInfo(HASH, acceptAll)).toMatchObject({ kind: 'found', upstream: bad.url });
  expect(bad.requestsTo(narInfo)).toHaveLength(3);
});

test('An upstream that was down is left alone, and used again once it is up', async () => {
  await bad.down();
  for (let i = 0; i < 3; i += 1) expect((await upstreams.findNarInfo(HASH, acceptAll)).kind).toBe('fault');
  expect(await upstreams.findNarInfo(HASH, acceptAll)).toEqual({ kind: 'missing', refused: [] });
  await bad.up();
  bad.route(narInfo, { body: narInfoText() });
  await expect
    .poll(() => upstreams.findNarInfo(HASH, acceptAll), { timeout: 5000, interval: 20 })
    .toMatchObject({ kind: 'found', upstream: bad.url });
});

test('A NAR is opened where it is, read whole, and by range', async () => {
  const nar = new Uint8Array(300_000).map((_, index) => index % 253);
  good.route('/nar/x.nar?hash=1', { body: nar });
  const source = { upstream: good.url, url: 'nar/x.nar?hash=1' };
  const whole = await upstreams.openNar(source);
  expect(whole).toMatchObject({ kind: 'found', size: nar.length, range: null });
  if (whole.kind === 'found') expect(await collect(whole.body, nar.length)).toEqual(nar);
  const part = await upstreams.openNar(source, { range: { start: 1000, end: 1999 } });
  expect(part).toMatchObject({ kind: 'found', size: nar.length, range: { start: 1000, end: 1999 } });
  if (part.kind === 'found')
    expect(Uint8Array.from(await collect(part.body, nar.length))).toEqual(nar.subarray(1000, 2000));
  expect(await upstreams.openNar(source, { range: { start: nar.length } })).toEqual({
    kind: 'unsatisfiable',
    size: nar.length,
  });
  expect(await upstreams.openNar(source, { method: 'HEAD' })).toMatchObject({
    kind: 'found',
    size: nar.length,
  });
});

test('The body of a NAR that is cut throws', async () => {
  good.route('/nar/x.nar', { body: new Uint8Array(300_000), truncateAt: 100_000 });
  const opened = await upstreams.findNar('nar/x.nar');
  expect(opened.kind).toBe('found');
  if (opened.kind === 'found') {
    await expect(collect(opened.body, 300_000)).rejects.toMatchObject({
      name: 'TransportError',
      kind: 'broken',
    });
  }
});
