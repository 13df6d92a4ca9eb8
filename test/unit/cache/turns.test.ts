import { describe, expect, it } from 'vitest';
import { createTurns } from '../../../src/cache/turns.ts';

/** Work that runs until it is let go, with the order in which it began. */
function works() {
  const begun: string[] = [];
  const ends = new Map<string, PromiseWithResolvers<string>>();
  return {
    begun,
    work: (name: string) => async (): Promise<string> => {
      begun.push(name);
      const end = Promise.withResolvers<string>();
      ends.set(name, end);
      return await end.promise;
    },
    end: (name: string) => ends.get(name)?.resolve(name),
    fail: (name: string) => ends.get(name)?.reject(new Error(name)),
  };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('turns', () => {
  it('let so many run at once, and the others in the order in which they came', async () => {
    const { begun, work, end, fail } = works();
    const turns = createTurns(2);
    const results = ['a', 'b', 'c', 'd'].map((name) => turns.take(work(name)));
    const [, b, ...others] = results;
    await settle();
    expect(begun).toEqual(['a', 'b']);
    fail('b');
    await expect(b).rejects.toThrow('b');
    await settle();
    expect(begun).toEqual(['a', 'b', 'c']);
    end('a');
    await settle();
    expect(begun).toEqual(['a', 'b', 'c', 'd']);
    end('c');
    end('d');
    expect(await Promise.all(others)).toEqual(['c', 'd']);
  });

  it('go by weight: what is too heavy waits, is passed by nobody, and runs alone at last', async () => {
    const { begun, work, end } = works();
    const turns = createTurns(10);
    const all = [
      turns.take(work('light'), 4),
      turns.take(work('heavy'), 25),
      turns.take(work('later'), 1),
      turns.take(work('last'), 9),
    ];
    await settle();
    expect(begun).toEqual(['light']);
    end('light');
    await settle();
    expect(begun).toEqual(['light', 'heavy']);
    end('heavy');
    await settle();
    expect(begun).toEqual(['light', 'heavy', 'later', 'last']);
    end('later');
    end('last');
    expect(await Promise.all(all)).toEqual(['light', 'heavy', 'later', 'last']);
  });
});
