import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, closeSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { createPinoLogger } from '../../../src/telemetry/pino-logger.ts';
import type { BufferedLogger, PinoLoggerOptions } from '../../../src/telemetry/pino-logger.ts';

const directory = mkdtempSync(join(tmpdir(), 'snowcap-logger-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

async function logged(
  options: Partial<PinoLoggerOptions>,
  use: (logger: BufferedLogger) => void,
): Promise<readonly string[]> {
  const lines: string[] = [];
  const destination = new Writable({
    decodeStrings: false,
    write(line: string, _encoding, done) {
      lines.push(line);
      done();
    },
  });
  const logger = await createPinoLogger({ level: 'debug', format: 'json', destination, ...options });
  use(logger);
  await logger.flush();
  return lines;
}

async function record(use: (logger: BufferedLogger) => void): Promise<Record<string, unknown>> {
  const lines = await logged({}, use);
  expect(lines).toHaveLength(1);
  return JSON.parse(lines[0] ?? '') as Record<string, unknown>;
}

describe('the JSON log', () => {
  it('has one object per line: level, time in ISO 8601, fields, and the sentence as msg', async () => {
    const line = await record((logger) => logger.info('answered', { status: 200, route: 'nar' }));
    const { time, ...rest } = line;
    expect(rest).toEqual({ level: 'info', status: 200, route: 'nar', msg: 'answered' });
    expect(new Date(String(time)).toISOString()).toBe(time);
  });

  it('adds the fields of `with` to each line, those of the line last', async () => {
    const line = await record((logger) => logger.with({ requestId: 'r1' }).with({ hash: 'h' }).warn('odd'));
    expect(line).toMatchObject({ requestId: 'r1', hash: 'h', level: 'warn', msg: 'odd' });
  });

  it('drops lines below its level', async () => {
    const lines = await logged({ level: 'warn' }, (logger) => {
      logger.debug('a');
      logger.info('b');
      logger.with({ x: 1 }).info('c');
      logger.warn('d');
      logger.error('e');
    });
    expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(['d', 'e']);
  });

  it('keeps a sentence with line ends on one line', async () => {
    const lines = await logged({}, (logger) => logger.info('a\nb', { text: 'c\nd' }));
    expect(lines.join('').trimEnd()).not.toContain('\n');
  });

  it('shows errors with their causes and codes', async () => {
    const cause = Object.assign(new TypeError('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    const line = await record((logger) =>
      logger.error('failed', { error: new Error('no answer', { cause }) }),
    );
    expect(line['error']).toMatchObject({
      type: 'Error',
      message: 'no answer',
      stack: expect.stringContaining('pino-logger.test.ts') as string,
      cause: { type: 'TypeError', message: 'connect ECONNREFUSED', code: 'ECONNREFUSED' },
    });
  });

  it('shows each error of an aggregate', async () => {
    const error = new AggregateError([new Error('one'), 'two'], 'all failed');
    const line = await record((logger) => logger.error('failed', { error }));
    expect(line['error']).toMatchObject({ message: 'all failed', errors: [{ message: 'one' }, 'two'] });
  });

  it('ends with causes and objects that contain themselves', async () => {
    const error = new Error('loop');
    error.cause = error;
    const loop: Record<string, unknown> = {};
    loop['self'] = loop;
    expect(await record((logger) => logger.error('failed', { error, loop }))).toMatchObject({
      msg: 'failed',
    });
  });

  it('has no secret, wherever it stands', async () => {
    const url = 'https://user:hunter2@cache.example.org/x?token=hunter2';
    const cause = new Error(`Cannot reach ${url}`);
    const lines = await logged({}, (logger) =>
      logger.with({ base: url }).error(`fetching ${url} failed`, {
        url: new URL(url),
        text: url,
        error: new Error(`no ${url}`, { cause }),
        nested: { list: [url], authorization: 'Basic hunter2', token: 'hunter2' },
        password: 'hunter2',
        secretKey: ['hunter2'],
      }),
    );
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toContain('hunter2');
    expect(lines[0]).toContain('cache.example.org');
  });

  it('takes values that JSON has no words for', async () => {
    const line = await record((logger) =>
      logger.info('odd', {
        big: 2n ** 70n,
        bytes: new Uint8Array(1000),
        when: new Date(0),
        never: new Date(Number.NaN),
        map: new Map([['a', 1]]),
        set: new Set([1, 2]),
        nothing: undefined,
      }),
    );
    expect(line).toMatchObject({
      big: '1180591620717411303424',
      bytes: '[1000 bytes]',
      when: '1970-01-01T00:00:00.000Z',
      never: null,
      map: [['a', 1]],
      set: [1, 2],
    });
  });
});

describe('a buffered log', () => {
  it('is written whole by flush', async () => {
    const path = join(directory, 'flush.log');
    const fd = openSync(path, 'w');
    const logger = await createPinoLogger({ level: 'info', format: 'json', destination: fd });
    for (let index = 0; index < 5000; index += 1) logger.info('line', { index });
    await logger.flush();
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    closeSync(fd);
    expect(lines.map((line) => (JSON.parse(line) as { index: number }).index)).toEqual(
      Array.from({ length: 5000 }, (_, index) => index),
    );
  });

  it('is written by flushSync before a process that ends at once', async () => {
    const script = `
      const { createPinoLogger } = await import(${JSON.stringify(new URL('../../../src/telemetry/pino-logger.ts', import.meta.url).href)});
      const logger = await createPinoLogger({ level: 'info', format: 'json' });
      logger.info('first');
      logger.error('the last words', { error: new Error('broken') });
      logger.flushSync();
      process.kill(process.pid, 'SIGKILL');
    `;
    const path = join(directory, 'sync.log');
    const fd = openSync(path, 'w');
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', fd, 'inherit'],
    });
    await once(child, 'close');
    closeSync(fd);
    expect(readFileSync(path, 'utf8')).toMatch(/"msg":"first"\}\n.*"msg":"the last words"\}\n$/);
  });

  it('is on its way soon, without a flush', async () => {
    const path = join(directory, 'soon.log');
    const fd = openSync(path, 'w');
    const logger = await createPinoLogger({ level: 'info', format: 'json', destination: fd });
    logger.info('alone');
    await expect.poll(() => readFileSync(path, 'utf8'), { timeout: 3000 }).toContain('"msg":"alone"');
    closeSync(fd);
  });
});

describe('the pretty log', () => {
  it('has one line per call: time, level, sentence, fields; no process id, no host name', async () => {
    const lines = await logged({ format: 'pretty' }, (logger) => {
      logger.info('answered', { status: 200 });
      logger.error('failed', { error: new Error('no answer', { cause: new Error('refused') }) });
    });
    const text = lines.join('');
    expect(text.trimEnd().split('\n')).toHaveLength(2);
    expect(text).toMatch(/^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: answered \{"status":200\}\n/);
    expect(text).toMatch(/ERROR: failed .*"no answer".*"refused"/);
    expect(text).not.toMatch(/pid|hostname|stack/);
  });
});
