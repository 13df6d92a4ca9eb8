import { describe, expect, test } from 'vitest';
import { baseUrl, ownCredentials, parseUpstreamUrl } from '../../../src/upstream/upstream-url.ts';

describe('An upstream URL', () => {
  test.each([
    ['https://cache.nixos.org', 'https://cache.nixos.org', null, false],
    ['https://cache.nixos.org/', 'https://cache.nixos.org', null, false],
    ['http://h:8080/a/b/?priority=3&unsigned=allow', 'http://h:8080/a/b', 3, true],
    ['https://h:443/a//?priority=0', 'https://h/a', 0, false],
    ['https://user:pw@h/a', 'https://h/a', null, false],
    ['HTTPS://Cache.Example.ORG/Team', 'https://cache.example.org/Team', null, false],
  ])('%s is the upstream %s', (text, name, priority, allowUnsigned) => {
    const config = parseUpstreamUrl(text);
    expect(baseUrl(config.url)).toBe(name);
    expect(config).toMatchObject({ priority, allowUnsigned });
    expect(config.url.search).toBe('');
  });

  test('keeps its credentials, unescaped for use', () => {
    expect(ownCredentials(parseUpstreamUrl('https://a%40b:c%3Ad@h').url)).toEqual({
      user: 'a@b',
      password: 'c:d',
    });
    expect(ownCredentials(parseUpstreamUrl('https://token@h').url)).toEqual({ user: 'token', password: '' });
    expect(ownCredentials(parseUpstreamUrl('https://h').url)).toBeNull();
  });

  test.each([
    ['cache.nixos.org', 'it is not a URL'],
    ['', 'it is not a URL'],
    ['ftp://h', 'the scheme must be http or https, not "ftp"'],
    ['file:///srv/cache', 'the scheme must be http or https, not "file"'],
    ['https://h?prioritty=3', 'unknown parameter "prioritty"'],
    ['https://h?priority=', 'priority must be a whole number'],
    ['https://h?priority=-1', 'priority must be a whole number'],
    ['https://h?priority=1.5', 'priority must be a whole number'],
    ['https://h?priority=1&priority=2', '"priority" is given twice'],
    ['https://h?unsigned=yes', 'unsigned must be "allow", not "yes"'],
    ['https://h#x', 'fragment'],
    ['https://u:100%@h', 'not an escape'],
  ])('%j is refused: %s', (text, why) => {
    expect(() => parseUpstreamUrl(text)).toThrow(TypeError);
    expect(() => parseUpstreamUrl(text)).toThrow(why);
  });

  test.each([
    'ftp://me:hunter2@h',
    'me:hunter2@h',
    'https://me:hunter2@h?x=1',
    'https://me:hunt?er2@hunter2@h',
    'https://h?token=hunter2',
    'https://me:hunter2%@h',
  ])('that is refused is shown without its secrets', (text) => {
    expect(() => parseUpstreamUrl(text)).toThrow(/^Cannot parse upstream URL (?!.*(hunt|er2))/);
  });
});
