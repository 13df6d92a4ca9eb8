import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createUndiciTransport } from '../../../src/upstream/undici-transport.ts';
import { startTransportBridge, type TransportBridge } from '../../support/bridged-transport.ts';
import { startFaultServer } from '../../support/fault-server.ts';
import { testTransport } from './transport.contract.ts';

let bridge: TransportBridge;

beforeAll(async () => {
  bridge = await startTransportBridge();
});

afterAll(async () => {
  await bridge.close();
});

testTransport({
  name: 'undici',
  create: () => createUndiciTransport({ userAgent: 'snowcap-test', lingerMs: 200 }),
});

testTransport({
  name: 'fetch, in workerd',
  create: () => bridge.createTransport(),
  unsupported: {
    kindsBeforeHeaders: 'workerd says "Network connection lost" for all of them',
    connections: 'workerd keeps and ends connections as it thinks fit',
    ownSignal: 'the signal of the test is on the other side of the bridge',
  },
});

test('fetch, in workerd: an abort before the headers ends the connection to the upstream', async (t) => {
  const server = await startFaultServer();
  t.onTestFinished(() => server.close());
  server.route('/', { stallAt: 'headers' });
  const times = { headersTimeoutMs: 20_000, idleTimeoutMs: 20_000, abortAfterMs: 200 };
  const asked = { method: 'GET', url: server.url, headers: {}, ...times };
  const answer = await fetch(bridge.url, { method: 'POST', body: JSON.stringify(asked) });
  expect(await answer.text()).toContain('TimeoutError');
  await vi.waitFor(() => expect(server.requests[0]?.state).toBe('left'));
});
