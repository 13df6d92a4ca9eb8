import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { Log, LogLevel, Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { s3Error, startS3FaultProxy } from '../../support/s3-fault-proxy.ts';
import type { S3FaultProxy } from '../../support/s3-fault-proxy.ts';
import type { S3Server } from '../../support/s3-server.ts';
import { startS3Server } from '../../support/s3-server.ts';
import { s3StoreOptions } from '../../support/s3-store.ts';

/**
 * The whole driver in workerd, bundled. The SDK's parser of XML for browsers wants a `DOMParser`, which
 * workerd has not: the bundle takes the one for Node.
 */
async function bundled(): Promise<Uint8Array> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('../../support/s3-worker.ts', import.meta.url))],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2024',
    platform: 'browser',
    conditions: ['workerd', 'worker', 'browser'],
    external: ['node:*'],
    alias: { '@aws-sdk/xml-builder': '@aws-sdk/xml-builder/dist-cjs/index.js' },
  });
  return outputFiles[0]?.contents ?? new Uint8Array();
}

let server: S3Server;
let proxy: S3FaultProxy;
let worker: Miniflare;
let url: URL;
let bundle: Uint8Array;

beforeAll(async () => {
  bundle = await bundled();
  server = await startS3Server();
  proxy = await startS3FaultProxy(server);
  const { endpoint, region, bucket, credentials } = proxy.server;
  const { prefix } = s3StoreOptions(server);
  // The window is one for Workers: 15 MiB.
  const window = { partSize: 5 * 1024 * 1024, concurrency: 2 };
  worker = new Miniflare({
    host: '127.0.0.1',
    port: 0,
    log: new Log(LogLevel.NONE),
    telemetry: { enabled: false },
    workers: [
      {
        config: {
          name: 'worker',
          compatibilityDate: '2026-01-01',
          compatibilityFlags: ['nodejs_compat'],
          manifest: {
            mainModule: 'worker.js',
            modules: { 'worker.js': { type: 'esm', contents: new TextDecoder().decode(bundle) } },
          },
          env: {
            OPTIONS: {
              type: 'json',
              value: {
                endpoint,
                region,
                bucket,
                prefix,
                credentials: { ...credentials },
                pathStyle: true,
                ...window,
              },
            },
          },
        },
      },
    ],
  });
  url = await worker.ready;
});

afterAll(async () => {
  await worker?.dispose();
  await proxy?.server.close();
  await server?.close();
});

async function ask(path: string): Promise<unknown> {
  const answer: unknown = await (await fetch(new URL(path, url))).json();
  if (typeof answer !== 'object' || answer === null || 'error' in answer) {
    throw new Error(`${path}: ${JSON.stringify(answer)}`);
  }
  return Reflect.get(answer, 'result');
}

test('the driver in workerd stores, reads, lists and deletes', async () => {
  expect(await ask('/get?key=nar/a')).toBeNull();
  expect(await ask('/put-text?key=nar/a')).toEqual({ written: true, size: 4 });
  expect(await ask('/get?key=nar/a')).toEqual({ text: 'text' });
  expect(await ask('/put?key=nar/b&pieces=23')).toEqual({ written: true, size: 23 * 1024 * 1024 });
  expect(await ask('/put?key=nar/b&pieces=1')).toEqual({ written: false, size: 23 * 1024 * 1024 });
  expect(await ask('/get?key=nar/b')).toEqual(await ask('/expected?pieces=23'));
  expect(await ask('/left?key=nar/b')).toEqual({ first: true });
  expect(await ask('/list')).toEqual(['nar/a', 'nar/b']);
  const download = await fetch(String(await ask('/url?key=nar/a')));
  expect(await download.text()).toBe('text');
  expect(await ask('/delete?key=nar/a')).toBeNull();
  expect(await ask('/list')).toEqual(['nar/b']);
  expect(await server.openUploads('')).toEqual([]);
});

test('the driver in workerd goes on after faults, as it does on Node', async () => {
  const faults = [
    ['PutObject', { kind: 'lose-answer' }, '/put-text?key=nar/c'],
    ['UploadPart', { kind: 'cut-request', at: 100_000 }, '/put?key=nar/d&pieces=11'],
    ['GetObject', s3Error(503, 'SlowDown'), '/get?key=nar/d'],
    ['GetObject', { kind: 'cut-answer', at: 5_000_000 }, '/get?key=nar/d'],
    ['ListObjectsV2', { kind: 'lose-answer' }, '/list'],
  ] as const;
  for (const [operation, fault, path] of faults) {
    const before = proxy.count(operation);
    const times = path.startsWith('/put?') ? 3 : 1;
    proxy.fail(operation, fault);
    await ask(path);
    expect(proxy.count(operation) - before).toBe(times + 1);
  }
  expect(await ask('/get?key=nar/d')).toEqual(await ask('/expected?pieces=11'));
  expect(await server.openUploads('')).toEqual([]);
});

test('the bundle of the driver leaves room for the rest of a Worker', () => {
  const kib = gzipSync(bundle).length / 1024;
  expect(kib).toBeGreaterThan(10);
  expect(kib).toBeLessThan(128);
});
