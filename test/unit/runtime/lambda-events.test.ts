import { describe, expect, it } from 'vitest';
import { parseEvent, requestOf } from '../../../src/runtime/lambda/function-event.ts';
import type { HttpEvent } from '../../../src/runtime/lambda/function-event.ts';

const { signal } = new AbortController();

function httpEvent(changes: Partial<HttpEvent> = {}): HttpEvent {
  return {
    rawPath: '/nar/abc.nar',
    rawQueryString: '',
    headers: { accept: 'application/json' },
    requestContext: { domainName: 'cache.test', http: { method: 'GET' }, stage: '$default' },
    ...changes,
  };
}

describe('events of Lambda', () => {
  it('are HTTP events of payload format 2.0', () => {
    const event = httpEvent();
    expect(parseEvent(event)).toEqual({ kind: 'http', event });
  });

  it('are jobs and the start', () => {
    const job = { kind: 'fill', key: 'nar/abc.nar' };
    expect(parseEvent(job)).toEqual({ kind: 'job', job });
    expect(parseEvent({ kind: 'verify', key: 'k', more: 1 })).toEqual({
      kind: 'job',
      job: { kind: 'verify', key: 'k' },
    });
    expect(parseEvent({ kind: 'evict', more: 1 })).toEqual({ kind: 'job', job: { kind: 'evict' } });
    expect(parseEvent({ kind: 'start-up' })).toEqual({ kind: 'start-up' });
  });

  it.each([
    ['nothing', null],
    ['a text', 'fill'],
    ['an unknown job', { kind: 'constructor', key: 'k' }],
    ['a job without a key', { kind: 'fill' }],
    ['a key that is no text', { kind: 'fill', key: 1 }],
    ['payload format 1.0', { path: '/', httpMethod: 'GET', requestContext: {} }],
    ['an event of another source', { Records: [{ secret: 'hidden' }] }],
  ])('are refused where they are something else: %s', (_, event) => {
    expect(() => parseEvent(event)).toThrow(/^Cannot tell what this event is for: expected [a-zA-Z ,-]+$/);
  });
});

describe('requests of events', () => {
  it('have the method, the path, the query as it was sent, and the headers', () => {
    const request = requestOf(
      httpEvent({ rawPath: '/nar/a%2Bb.nar', rawQueryString: 'hash=a%20b&x' }),
      signal,
    );
    expect(request.method).toBe('GET');
    expect(request.url).toBe('https://cache.test/nar/a%2Bb.nar?hash=a%20b&x');
    expect(request.headers.get('accept')).toBe('application/json');
    expect(request.body).toBeNull();
  });

  it.each(['GET', 'HEAD'])('are answered whatever a client sends along with a %s', (method) => {
    const requestContext = { domainName: 'cache.test', http: { method }, stage: '$default' };
    const headers = { accept: 'text/plain', 'user-agent': 'Schnee ❄' };
    const request = requestOf(httpEvent({ requestContext, headers, body: 'e30=' }), signal);
    expect(request.body).toBeNull();
    expect(Buffer.from(request.headers.get('user-agent') ?? '', 'latin1').toString()).toBe('Schnee ❄');
    expect(request.headers.get('accept')).toBe('text/plain');
  });

  it('are without the name of a stage', () => {
    const staged = { domainName: 'api.test', http: { method: 'HEAD' }, stage: 'prod' };
    const request = requestOf(httpEvent({ rawPath: '/prod/nix-cache-info', requestContext: staged }), signal);
    expect(request.url).toBe('https://api.test/nix-cache-info');
    expect(request.method).toBe('HEAD');
  });

  it('have the body, of text or of base64', async () => {
    const put = { domainName: 'cache.test', http: { method: 'PUT' } };
    const text = requestOf(httpEvent({ requestContext: put, body: 'StorePath: …\n' }), signal);
    expect(await text.text()).toBe('StorePath: …\n');
    const bytes = Uint8Array.from([0, 255, 128]);
    const body = Buffer.from(bytes).toString('base64');
    const binary = requestOf(httpEvent({ requestContext: put, body, isBase64Encoded: true }), signal);
    expect(new Uint8Array(await binary.arrayBuffer())).toEqual(bytes);
  });

  it('are aborted with the invocation', () => {
    const controller = new AbortController();
    const request = requestOf(httpEvent(), controller.signal);
    controller.abort();
    expect(request.signal.aborted).toBe(true);
  });
});
