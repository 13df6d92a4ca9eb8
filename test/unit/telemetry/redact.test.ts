import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maskSecret, redactText, redactUrl } from '../../../src/telemetry/redact.ts';

describe('redactUrl', () => {
  it.each([
    ['https://cache.example.org/nar/x.nar.xz', 'https://cache.example.org/nar/x.nar.xz'],
    ['https://user:pw@cache.example.org/x', 'https://cache.example.org/x'],
    ['https://token@cache.example.org', 'https://cache.example.org'],
    ['https://user:p@ss:w@host:1/a@b', 'https://host:1/a@b'],
    ['https://user:pa/ss@host/x', 'https://host/x'],
    ['https://host:8080/path@2x', 'https://host:8080/path@2x'],
    ['http://[::1]:80/@', 'http://[::1]:80/@'],
    ['//user:pw@host/x', '//host/x'],
    ['https://h/x?hash=abc&narsize=1', 'https://h/x?hash=abc&narsize=1'],
    ['https://h/x?token=abc&a=1', 'https://h/x?token=…&a=1'],
    ['https://h/x?a=1&X-Amz-Signature=abc&X-Amz-Date=2', 'https://h/x?a=1&X-Amz-Signature=…&X-Amz-Date=…'],
    ['https://h/x?access%5Ftoken=abc', 'https://h/x?access%5Ftoken=…'],
    ['https://h/x?sig=a%2Fb#access_token=abc', 'https://h/x?sig=…#access_token=…'],
    ['/nar/x.nar?sig=abc', '/nar/x.nar?sig=…'],
    ['s3://b?endpoint=https://u:pw@h/x&region=a', 's3://b?endpoint=https://h/x&region=a'],
    ['s3://b?endpoint=https%3A%2F%2Fu%3Apw%40h', 's3://b?endpoint=https://h'],
    ['s3://b?endpoint=https%3A%2F%2Fh%2Fx', 's3://b?endpoint=https%3A%2F%2Fh%2Fx'],
    ['/nar/x.nar?%E0=1', '/nar/x.nar?%E0=1'],
    ['not a url', 'not a url'],
    ['', ''],
  ])('makes %j into %j', (url, redacted) => {
    expect(redactUrl(url)).toBe(redacted);
  });

  it('takes a URL object', () => {
    expect(redactUrl(new URL('https://u:p@h/x?password=1'))).toBe('https://h/x?password=…');
  });

  it('never lets a password through, whatever it is made of', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1, maxLength: 12 }),
        fc.constantFrom('/', '/nar/x.nar', '/a@b/c'),
        (password, path) => {
          const url = new URL(`https://host.example${path}`);
          url.username = 'user';
          url.password = `Q7${password}Q7`;
          expect(redactUrl(url)).not.toContain('Q7');
          expect(redactUrl(url).startsWith('https://host.example')).toBe(true);
        },
      ),
    );
  });

  it('never throws, and is done when it was done once', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.webUrl({ withQueryParameters: true, withFragments: true })),
        (text) => {
          const once = redactUrl(text);
          if (!text.includes('@')) expect(redactUrl(once)).toBe(once);
        },
      ),
    );
  });
});

describe('redactText', () => {
  it('redacts each URL in a text and nothing else', () => {
    expect(
      redactText('Cannot fetch "https://u:p@a.example/x?token=t" (from http://k@b/): user@host said no'),
    ).toBe('Cannot fetch "https://a.example/x?token=…" (from http://b/): user@host said no');
  });
});

describe('maskSecret', () => {
  it('shows the name of a key of Nix and nothing else of it', () => {
    expect(maskSecret(`cache-1:${'A'.repeat(86)}==`)).toBe('cache-1:…');
  });

  it.each(['hunter2', 'user:pw', 'a:b:c', '', `${'A'.repeat(86)}==`])('shows nothing of %j', (secret) => {
    expect(maskSecret(secret)).toBe('…');
  });
});
