import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { context, propagation } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { expect, it, vi } from 'vitest';
import { loadConfig } from '../../../src/config/load.ts';
import { startNode } from '../../../src/runtime/node.ts';
import { silentLogger } from '../../../src/telemetry/logger.ts';

const loaded = vi.hoisted(() => ({ tracing: 0 }));
vi.mock('../../../src/telemetry/otel-tracing.ts', async (original) => {
  loaded.tracing += 1;
  return await original();
});

it('without a collector, no SDK is loaded, and neither context manager nor propagator is there', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-'));
  const start = async (settings: Readonly<Record<string, string>>): Promise<number> => {
    const environment = {
      SNOWCAP_LISTEN: '127.0.0.1:0',
      SNOWCAP_STORAGE: `file:${directory}/storage`,
      SNOWCAP_DATABASE: `sqlite:${directory}/index.db`,
      SNOWCAP_UPSTREAMS: '',
      ...settings,
    };
    const result = await loadConfig({ environment, hostname: 'snowcap.test', terminal: false });
    if (!result.ok) throw new Error(JSON.stringify(result.problems));
    const running = await startNode(result.config, { logger: silentLogger, version: 'test' });
    const { status } = await fetch(`${running.url}/${'0'.repeat(32)}.narinfo`);
    await running.close();
    return status;
  };
  try {
    expect(
      await start({ OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }),
    ).toBe(404);
    expect(await start({})).toBe(404);
    expect(loaded.tracing).toBe(0);
    // Each says yes only where none is set yet.
    expect(context.setGlobalContextManager(new AsyncLocalStorageContextManager())).toBe(true);
    expect(propagation.setGlobalPropagator(new W3CTraceContextPropagator())).toBe(true);
    expect(await start({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' })).toBe(404);
    expect(loaded.tracing).toBe(1);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
