import { Hono } from 'hono';
import { describe, expect, it } from 'vitest';
import type { Platform } from '../../../src/platform.ts';
import type { AppEnv } from '../../../src/server/env.ts';
import { onError } from '../../../src/server/errors.ts';
import { observe } from '../../../src/server/observe.ts';
import { silentLogger } from '../../../src/telemetry/logger.ts';
import { noMetrics } from '../../../src/telemetry/metrics.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';

describe('a request that is aborted with what is no Error', () => {
  it('has its line in the log, as of a client that left', async () => {
    const lines: Readonly<Record<string, unknown>>[] = [];
    const counted: (readonly [string, unknown])[] = [];
    const platform: Platform = {
      clock: systemClock,
      random: () => 0,
      logger: { ...silentLogger, info: (_, fields = {}) => void lines.push(fields) },
      metrics: { ...noMetrics, count: (name, labels) => void counted.push([name, labels]) },
      defer: () => undefined,
      fillsOutliveClients: true,
    };
    const app = new Hono<AppEnv>();
    app.use(observe(platform));
    app.onError(onError);
    const reason: unknown = 'Client connection prematurely closed.';
    app.get('/', (c) => {
      c.get('note').route = 'nar';
      throw reason;
    });
    await expect(Promise.resolve(app.request('/'))).rejects.toBe(reason);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ status: 499, outcome: 'client-left', error: reason });
    expect(counted).toEqual([
      ['snowcap_requests_total', { route: 'nar', status: '499', outcome: 'client-left' }],
    ]);
  });
});
