import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseNetrc } from '../../../src/upstream/netrc.ts';

describe('A netrc file', () => {
  test.each([
    ['on one line', 'machine a.test login me password pw'],
    ['on several lines', 'machine a.test\n\tlogin me\n\tpassword pw\n'],
    ['with Windows line ends', 'machine a.test\r\nlogin me\r\npassword pw\r\n'],
    ['with a value on the next line', 'machine\na.test login\nme password\npw'],
    ['with comments', '# mine\nmachine a.test # here\nlogin me # me\npassword pw # secret'],
    ['with quotes', 'machine "a.test" login "me" password "pw"'],
    ['in capitals', 'machine A.TEST login me password pw'],
    ['with an account', 'machine a.test login me account x password pw'],
    ['with a macro before', 'macdef init\ncd /pub\nmachine no\n\nmachine a.test login me password pw'],
    ['with a macro after', 'machine a.test login me password pw\nmacdef init\nmachine b.test\nput x'],
    [
      'with the machine twice',
      'machine a.test login me password pw\nmachine a.test login you password other',
    ],
    ['with a default before', 'default login d password d\nmachine a.test login me password pw'],
  ])('%s gives the credentials of a machine', (_name, text) => {
    expect(parseNetrc(text).lookup('a.test')).toEqual({ user: 'me', password: 'pw' });
    expect(parseNetrc(text).lookup('A.test')).toEqual({ user: 'me', password: 'pw' });
  });

  test('gives those of default to everybody else, and nothing without one', () => {
    expect(parseNetrc('machine a login x password y default login d password e').lookup('b')).toEqual({
      user: 'd',
      password: 'e',
    });
    expect(parseNetrc('machine a login x password y').lookup('b')).toBeNull();
    expect(parseNetrc('').lookup('b')).toBeNull();
    expect(parseNetrc('machine b').lookup('b')).toBeNull();
  });

  test('may leave out the login or the password', () => {
    expect(parseNetrc('machine a password t0ken').lookup('a')).toEqual({ user: '', password: 't0ken' });
    expect(parseNetrc('machine a login me').lookup('a')).toEqual({ user: 'me', password: '' });
  });

  test('may have a password that looks like something else', () => {
    expect(parseNetrc('machine a login # password #x').lookup('a')).toEqual({ user: '#', password: '#x' });
    expect(parseNetrc('machine a login machine password default').lookup('a')).toEqual({
      user: 'machine',
      password: 'default',
    });
  });

  test.each([
    ['machine a.test\nlogin me\nhunter2', 3, 'expected machine'],
    ['login hunter2', 1, 'before any "machine"'],
    ['machine a.test login me password', 1, '"password" has no value'],
    ['machine a.test\n\n  login "hunter2', 3, 'not closed'],
    ['machine', 1, '"machine" has no value'],
  ])('that is malformed (%j) is an error with its line and without its secrets', (text, line, why) => {
    let message = '';
    try {
      parseNetrc(text);
    } catch (error) {
      message = error instanceof SyntaxError ? error.message : '';
    }
    expect(message).toContain(`line ${line}: `);
    expect(message).toContain(why);
    expect(message).not.toContain('hunter2');
  });

  test('gives back every quoted user name and password', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 0, maxLength: 20 });
    fc.assert(
      fc.property(text, text, (user, password) => {
        const quoted = (value: string): string =>
          `"${value.replace(/[\\"]/g, '\\$&').replace(/\n/g, '\\n').replace(/\r/g, '\\r').replace(/\t/g, '\\t')}"`;
        const netrc = parseNetrc(`machine a login ${quoted(user)}\npassword ${quoted(password)}\n`);
        expect(netrc.lookup('a')).toEqual({ user, password });
      }),
    );
  });

  test('never fails with anything but a SyntaxError', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('machine ', 'login ', 'a', '"', '\\', '\n', '#', ' ', 'macdef ') }),
        (text) => {
          try {
            parseNetrc(text);
          } catch (error) {
            expect(error).toBeInstanceOf(SyntaxError);
          }
        },
      ),
    );
  });
});
