import { endingWith, startSpan, within } from './tracing.ts';

/** What gives no promise, or is no work of a request. */
const UNTRACED: ReadonlySet<PropertyKey> = new Set(['list', 'close']);

/**
 * The same object, each of whose asynchronous methods is a span `<part>.<method>` below the active one. The first
 * argument, where it is a text, is what it is about: a storage key, the hash of a store path, the name of a lock.
 */
export function tracingOperations<T extends object>(target: T, part: 'storage' | 'index' | 'lock'): T {
  const wrapped = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get(object, name): unknown {
      const member: unknown = Reflect.get(object, name, object);
      if (typeof member !== 'function' || UNTRACED.has(name)) return member;
      const known = wrapped.get(name);
      if (known !== undefined) return known;
      const title = `${part}.${String(name)}`;
      const method = (...given: unknown[]): unknown => {
        const [subject] = given;
        const attributes = typeof subject === 'string' ? { 'snowcap.key': subject } : {};
        const span = startSpan(title, attributes, 'client');
        if (span === null) return Reflect.apply(member, object, given);
        return endingWith(span, async () => {
          const result: unknown = await within(span, (): unknown => Reflect.apply(member, object, given));
          if (result === null) span.setAttribute('snowcap.found', false);
          return result;
        });
      };
      wrapped.set(name, method);
      return method;
    },
  });
}
