/**
 * The same object, each of whose asynchronous methods reports when it is done: `ok`, or `fault` where it
 * was rejected. What operations cost is the bill of object stores and databases.
 */
export function countingOperations<T extends object>(
  target: T,
  count: (operation: string, outcome: 'ok' | 'fault') => void,
): T {
  const wrapped = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get(object, name): unknown {
      const member: unknown = Reflect.get(object, name, object);
      if (typeof member !== 'function') return member;
      const known = wrapped.get(name);
      if (known !== undefined) return known;
      const method = (...given: unknown[]): unknown => {
        const result: unknown = Reflect.apply(member, object, given);
        if (!(result instanceof Promise)) return result;
        return result.then(
          (value: unknown) => {
            count(String(name), 'ok');
            return value;
          },
          (error: unknown) => {
            count(String(name), 'fault');
            throw error;
          },
        );
      };
      wrapped.set(name, method);
      return method;
    },
  });
}
