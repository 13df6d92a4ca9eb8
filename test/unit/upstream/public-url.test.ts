import { describe, expect, test } from 'vitest';
import { world } from './fakes.ts';

const A = 'http://a.test/team';

describe('The URL of a NAR for clients', () => {
  test.each([
    ['nar/x.nar.xz', `${A}/nar/x.nar.xz`],
    ['nar/x.nar?hash=abc&narsize=12', `${A}/nar/x.nar?hash=abc&narsize=12`],
    ['nar/%C3%A4.nar', `${A}/nar/%C3%A4.nar`],
  ])('of %s leads to the upstream itself', (url, expected) => {
    expect(world([A]).upstreams.publicUrl({ upstream: A, url })).toBe(expected);
  });

  test.each(['nar/x.nar?token=abc', 'nar/x.nar?X-Amz-Signature=abc', '../other/x.nar', 'nar/x y.nar'])(
    'of %s there is none',
    (url) => {
      expect(world([A]).upstreams.publicUrl({ upstream: A, url })).toBeNull();
    },
  );

  test('there is none where the upstream needs credentials, of its URL or of a netrc file', () => {
    const location = { upstream: A, url: 'nar/x.nar' };
    const own = world([A.replace('//', '//user:secret@')]);
    expect(own.upstreams.publicUrl(location)).toBeNull();
    const netrc = world([A], { credentials: () => ({ user: 'user', password: 'secret' }) });
    expect(netrc.upstreams.publicUrl(location)).toBeNull();
  });

  test('there is none of an upstream that is not configured any more', () => {
    expect(world([A]).upstreams.publicUrl({ upstream: 'http://b.test', url: 'nar/x.nar' })).toBeNull();
  });
});
