import { describe, expect, test } from 'vitest';
import { createBudget } from '../../../src/cache/budget.ts';

describe('A budget', () => {
  test('gives what is there, refuses the rest, and takes each share back once', () => {
    const changes: number[] = [];
    const budget = createBudget(100, (reserved) => changes.push(reserved));
    const first = budget.reserve(60);
    expect(budget.reserve(41)).toBeNull();
    const second = budget.reserve(40);
    first?.release();
    first?.release();
    expect(budget.reserved).toBe(40);
    second?.release();
    expect(changes).toEqual([60, 100, 40, 0]);
  });

  test('leaves an eighth to those who have no other way', () => {
    const budget = createBudget(80);
    expect(budget.reserveIfAmple(71)).toBeNull();
    const first = budget.reserveIfAmple(70);
    expect(budget.reserveIfAmple(1)).toBeNull();
    expect(budget.reserve(10)?.bytes).toBe(10);
    first?.release();
    expect(budget.reserveIfAmple(60)?.bytes).toBe(60);
    expect(budget.reserved).toBe(70);
  });

  test('without an expiry keeps a share for ever', () => {
    const budget = createBudget(100);
    budget.reserve(100);
    expect(budget.reserve(1)).toBeNull();
  });

  test('with an expiry takes back what nobody released, as soon as it stands in the way', () => {
    let now = 0;
    const budget = createBudget(100, undefined, { now: () => now, afterMs: 1000 });
    const lost = budget.reserve(60);
    now = 500;
    const kept = budget.reserve(40);
    now = 999;
    expect(budget.reserve(10)).toBeNull();
    now = 1000;
    expect(budget.reserve(10)?.bytes).toBe(10);
    expect(budget.reserved).toBe(50);
    // Whoever was only slow gives back what is not theirs any more.
    lost?.release();
    expect(budget.reserved).toBe(50);
    kept?.release();
    expect(budget.reserved).toBe(10);
  });
});
