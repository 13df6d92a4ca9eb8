import { describe, expect, test, vi } from 'vitest';
import { createConsoleLogger } from '../../../src/telemetry/console-logger.ts';
import type { ConsoleLoggerOptions } from '../../../src/telemetry/console-logger.ts';

function recorded(level: ConsoleLoggerOptions['level']) {
  const lines: (readonly [string, unknown])[] = [];
  const logger = createConsoleLogger({
    level,
    now: () => 0,
    write: (at, line) => lines.push([at, JSON.parse(line)]),
  });
  return { logger, lines };
}

describe('A log on the console', () => {
  test('is one JSON object a line, as the log of Node', () => {
    const { logger, lines } = recorded('info');
    logger.with({ part: 'upstream' }).warn('it failed', { upstream: new URL('https://u:p@a.test/x') });
    const time = '1970-01-01T00:00:00.000Z';
    const upstream = 'https://a.test/x';
    expect(lines).toEqual([['warn', { level: 'warn', time, part: 'upstream', upstream, msg: 'it failed' }]]);
  });

  test('drops what is below its level', () => {
    const { logger, lines } = recorded('warn');
    logger.debug('no');
    logger.info('no');
    logger.warn('yes');
    logger.error('yes');
    expect(lines.map(([level]) => level)).toEqual(['warn', 'error']);
  });

  test('shows no secret: not in fields, not in errors and their causes, not in the sentence', () => {
    const { logger, lines } = recorded('info');
    const cause = new Error('at https://x.test/?token=s3cret');
    logger.error('see https://user:s3cret@x.test/', {
      password: 's3cret',
      error: new Error('https://user:s3cret@x.test/', { cause }),
    });
    expect(JSON.stringify(lines)).not.toContain('s3cret');
    expect(lines[0]?.[1]).toMatchObject({
      password: '…',
      error: { type: 'Error', cause: { type: 'Error' } },
    });
  });

  test('goes to the method of the console that its level is named after', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    createConsoleLogger({ level: 'info' }).warn('careful');
    expect(warn).toHaveBeenCalledOnce();
    expect(warn.mock.calls[0]?.[0]).toContain('"msg":"careful"');
  });
});
