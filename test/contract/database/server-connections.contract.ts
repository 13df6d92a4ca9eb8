import { describe, expect, it, onTestFinished } from 'vitest';
import { MetadataError } from '../../../src/database/metadata-store.ts';
import { startTcpProxy, type TcpProxy } from '../../support/tcp-proxy.ts';
import { hashOf, keyOf, narOf, NOW, pathOf, record, storedNar } from './records.ts';
import { atPort, freshServerStore, type ServerSubject } from './server-subject.ts';

async function freshProxy(subject: ServerSubject): Promise<TcpProxy> {
  const proxy = await startTcpProxy(subject.port);
  onTestFinished(() => proxy.close());
  return proxy;
}

export function testConnections(subject: ServerSubject): void {
  describe('connections', () => {
    it('a hit is one round trip', async () => {
      const proxy = await freshProxy(subject);
      const { store } = await freshServerStore(subject, { port: proxy.port, poolSize: 1 });
      await record(store, 1);
      await store.getPath(hashOf(1));
      const before = proxy.roundTrips;
      for (let times = 0; times < 10; times++) await store.getPath(hashOf(1));
      expect(proxy.roundTrips - before).toBe(10);
    });

    it('are as many as the pool may have, for any number of operations at once', async () => {
      const { store, database } = await freshServerStore(subject, { poolSize: 3 });
      const numbers = Array.from({ length: 60 }, (_, at) => at + 1);
      await Promise.all(numbers.map((number) => record(store, number, [1, 2, number + 1])));
      await Promise.all(numbers.map((number) => store.markPresent(keyOf(number), storedNar(number))));
      expect(await subject.countConnections(database)).toBe(3);
      expect((await store.totals()).presentNars).toBe(60);
    });

    it('that were ended are replaced, and the operation is done again', async () => {
      const { store, database } = await freshServerStore(subject, { poolSize: 2 });
      await record(store, 1);
      for (let round = 1; round <= 3; round++) {
        await subject.endConnections(database);
        expect(await store.getPath(hashOf(1))).not.toBeNull();
        await subject.endConnections(database);
        expect(await store.markPresent(keyOf(1), storedNar(1))).toBeGreaterThanOrEqual(round);
      }
    });

    it('that are lost with the answer change nothing of what an operation does', async () => {
      const proxy = await freshProxy(subject);
      const { store } = await freshServerStore(subject, { port: proxy.port, poolSize: 1 });
      const first = await record(store, 1, [2]);
      const lost = async <Result>(operation: () => Promise<Result>): Promise<Result> => {
        await store.ping();
        proxy.loseAnswers(1);
        return await operation();
      };
      expect(await lost(() => store.getPath(hashOf(1)))).toEqual(first);
      expect((await lost(() => record(store, 3, [4, 5]))).path).toMatchObject(pathOf(3, [4, 5]));
      expect([...(await store.references(hashOf(3)))].sort()).toEqual([4, 5].map(hashOf));
      const replaced = await lost(() => store.replacePath(pathOf(3, [6]), narOf(7), 1));
      expect(replaced.path).toMatchObject({ ...pathOf(3, [6]), narKey: keyOf(7), revision: 2 });
      expect(await store.references(hashOf(3))).toEqual([hashOf(6)]);
      const generation = await lost(() => store.markPresent(keyOf(1), storedNar(1)));
      expect((await store.getNar(keyOf(1)))?.nar.generation).toBe(generation);
      expect(await lost(() => store.markVerified(keyOf(1), generation ?? -1))).toBe(true);
      expect(await store.totals()).toEqual({ presentBytes: 501, presentNars: 1 });
      await lost(() => store.touch([{ key: keyOf(1), at: 2 * NOW }]));
      expect((await store.getNar(keyOf(1)))?.nar.lastAccess).toBe(2 * NOW);
      await lost(() => store.markQuarantined(keyOf(1), 'wrong'));
      expect((await store.getNar(keyOf(1)))?.nar).toMatchObject({
        state: 'quarantined',
        generation: (generation ?? 0) + 1,
      });
      expect(await store.totals()).toEqual({ presentBytes: 0, presentNars: 0 });
      expect(await lost(() => store.leases.take('fill', 'me', 60_000))).toBe(true);
    });

    it('that are lost at random leave no half of an operation', async () => {
      const proxy = await freshProxy(subject);
      const { store, database } = await freshServerStore(subject, { port: proxy.port, poolSize: 4 });
      for (let number = 1; number <= 60; number++) {
        if (number % 3 === 0) setImmediate(() => proxy.dropAll());
        await Promise.allSettled([
          record(store, number, [number + 1, number + 2]),
          store.markPresent(keyOf(number - 1), storedNar(number - 1)),
        ]);
      }
      const [counted] = await subject.query(
        'select sum(present_bytes) as bytes, sum(present_nars) as nars from size_counters',
        database,
      );
      const [summed] = await subject.query(
        `select coalesce(sum(file_size), 0) as bytes, count(*) as nars from nars where state = 'present'`,
        database,
      );
      expect({ bytes: Number(counted?.['bytes']), nars: Number(counted?.['nars']) }).toEqual({
        bytes: Number(summed?.['bytes']),
        nars: Number(summed?.['nars']),
      });
      expect(Number(summed?.['nars'])).toBeGreaterThan(10);
      for (const { path } of await store.listPaths(0, 100)) {
        expect(await store.references(path.hash)).toHaveLength(2);
      }
    });

    it('a server that falls silent is given up in time, and asked again over new connections', async () => {
      const proxy = await freshProxy(subject);
      const { store } = await freshServerStore(subject, {
        port: proxy.port,
        poolSize: 2,
        statementTimeoutMs: 300,
      });
      await record(store, 1);
      proxy.stall(true);
      const from = performance.now();
      await expect(store.getPath(hashOf(1))).rejects.toThrow(/getPath failed.*has not answered/);
      expect(performance.now() - from).toBeLessThan(4000);
      proxy.stall(false);
      expect(await store.getPath(hashOf(1))).not.toBeNull();
    });

    it('a statement that waits for too long is ended by the server', async () => {
      const { store, database } = await freshServerStore(subject, { statementTimeoutMs: 1000, poolSize: 2 });
      await record(store, 1);
      const release = await subject.holdNar(database, keyOf(1));
      try {
        const from = performance.now();
        await expect(store.markPresent(keyOf(1), storedNar(1))).rejects.toThrow(MetadataError);
        expect(performance.now() - from).toBeLessThan(9000);
        // Whoever only reads is not held up.
        expect(await store.getPath(hashOf(1))).not.toBeNull();
      } finally {
        await release();
      }
      expect(await store.markPresent(keyOf(1), storedNar(1))).toBe(1);
      expect(await store.totals()).toEqual({ presentBytes: 501, presentNars: 1 });
    });

    it('a server that crashed and came back is used again', async () => {
      const { store } = await freshServerStore(subject, { poolSize: 2 });
      await record(store, 1);
      await subject.restart();
      expect(await store.getPath(hashOf(1))).not.toBeNull();
      expect(await store.markPresent(keyOf(1), storedNar(1))).toBe(1);
    });

    it('a server that is gone is an error at once, and the store can be closed', async () => {
      const proxy = await startTcpProxy(subject.port);
      const { store } = await freshServerStore(subject, { port: proxy.port });
      await record(store, 1);
      await proxy.close();
      const from = performance.now();
      await expect(store.getPath(hashOf(1))).rejects.toThrow(MetadataError);
      await expect(store.ping()).rejects.toThrow(MetadataError);
      expect(performance.now() - from).toBeLessThan(3000);
      await store.close();
    });

    it('a server that is gone for a while is an error at once each time, and used as soon as it is back', async () => {
      const proxy = await freshProxy(subject);
      const { store } = await freshServerStore(subject, { port: proxy.port, poolSize: 2 });
      await record(store, 1);
      await proxy.down();
      for (let times = 0; times < 6; times++) {
        const from = performance.now();
        await expect(store.getPath(hashOf(1))).rejects.toThrow(MetadataError);
        expect(performance.now() - from).toBeLessThan(3000);
      }
      await proxy.up();
      const from = performance.now();
      expect(await store.getPath(hashOf(1))).not.toBeNull();
      expect(performance.now() - from).toBeLessThan(3000);
    });

    it('a store can be closed while its server is silent', async () => {
      const proxy = await freshProxy(subject);
      const { store } = await freshServerStore(subject, { port: proxy.port, statementTimeoutMs: 300 });
      await record(store, 1);
      proxy.stall(true);
      const asked = store.getPath(hashOf(1)).catch((error: unknown) => error);
      const from = performance.now();
      await store.close();
      expect(performance.now() - from).toBeLessThan(8000);
      expect(await asked).toBeInstanceOf(MetadataError);
    });

    it('two stores that write the same in different order do not hold each other up', async () => {
      const { store, url } = await freshServerStore(subject, { poolSize: 5 });
      const other = await subject.open({
        url: atPort(url, subject.port),
        checkSchema: 'on-fault',
        poolSize: 5,
      });
      onTestFinished(() => other.close());
      const numbers = Array.from({ length: 40 }, (_, at) => at + 1);
      const forth = numbers.map((number) => () => record(store, number, numbers));
      const back = numbers.toReversed().map((number) => () => record(other, number, numbers.toReversed()));
      await Promise.all([...forth, ...back].map((work) => work()));
      const accesses = numbers.map((number) => ({ key: keyOf(number), at: NOW }));
      await Promise.all([
        store.touch(accesses),
        other.touch(accesses.toReversed()),
        ...numbers.map((number) => store.markPresent(keyOf(number), storedNar(number))),
        ...numbers.toReversed().map((number) => other.markPresent(keyOf(number), storedNar(number))),
      ]);
      expect(await store.totals()).toEqual({
        presentBytes: numbers.reduce((sum, number) => sum + 500 + number, 0),
        presentNars: 40,
      });
      for (const number of numbers) expect(await store.references(hashOf(number))).toHaveLength(39);
    });
  });
}
