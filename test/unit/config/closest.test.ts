import { describe, expect, it } from 'vitest';
import { closest } from '../../../src/config/closest.ts';

describe('closest', () => {
  it.each([
    ['lisen', 'listen'],
    ['ltsten', 'listen'],
    ['storagee', 'storage'],
  ])('takes %s for %s', (text, meant) => {
    expect(closest(text, ['storage', 'listen', 'verify'])).toBe(meant);
  });

  it('finds nothing where everything is far', () => {
    expect(closest('zebra', ['storage', 'listen', 'verify'])).toBeNull();
  });
});
