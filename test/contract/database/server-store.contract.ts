import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { MetadataError } from '../../../src/database/metadata-store.ts';
import { testConnections } from './server-connections.contract.ts';
import { testServerEvictions } from './server-evictions.contract.ts';
import { testServerMigrations } from './server-migrations.contract.ts';
import { atPort, freshServerStore, type ServerSubject } from './server-subject.ts';
import { testServerLeases } from './server-leases.contract.ts';

/** What the index on a database server promises beyond `MetadataStore`: to open, to migrate, to bear its network. */
export function testServerStore(subject: ServerSubject): void {
  describe(`The index on a server of ${subject.name}`, () => {
    describe('its URL', () => {
      const scheme = subject.name === 'PostgreSQL' ? 'postgres' : 'mysql';
      const open = (url: string) =>
        subject.open({ url, checkSchema: subject.migrations, connectTimeoutMs: 2000 });
      const { password } = subject;

      it.each([
        ['names no database', `${scheme}://snowcap:${password}@127.0.0.1:1/`, /names no database/],
        ['is none', `${scheme}://snowcap:${password}@127.0.0.1:port/db`, /cannot be read/],
        ['is of another scheme', `http://snowcap:${password}@127.0.0.1/db`, /begins with http:/],
        ['leads to a closed port', `${scheme}://snowcap:${password}@127.0.0.1:1/db`, /ECONNREFUSED/],
        [
          'has a wrong password',
          `${scheme}://snowcap:x${password}@127.0.0.1:${subject.port}/db`,
          /password|denied/,
        ],
        [
          'names an unknown database',
          `${scheme}://snowcap:${password}@127.0.0.1:${subject.port}/nowhere`,
          /not exist|Unknown database/,
        ],
      ])('is refused where it %s, and its password never shown', async (_, url, message) => {
        const error: unknown = await open(url).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(MetadataError);
        expect(String(error)).toMatch(/^MetadataError: Cannot open the index/);
        expect(String(error)).toMatch(message);
        expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(password);
      });

      it('may lead to a server that is not there now: the store is opened, and well once that answers', async () => {
        const url = await subject.createDatabase();
        await subject.migrate(url, subject.migrations);
        const told: MetadataError[] = [];
        const onOutage = (error: MetadataError): void => void told.push(error);
        const { migrations: checkSchema } = subject;
        const away = await subject.open({ url: atPort(url, 1), checkSchema, onOutage });
        expect(told.map(String)).toEqual([expect.stringMatching(/Cannot open the index.*ECONNREFUSED/)]);
        await expect(away.totals()).rejects.toBeInstanceOf(MetadataError);
        await away.close();
        const unfit = await subject.createDatabase();
        await expect(subject.open({ url: unfit, checkSchema, onOutage })).rejects.toThrow(/snowcap migrate/);
        expect(told).toHaveLength(1);
      });

      it('is described without user and password', async () => {
        const { store, database } = await freshServerStore(subject);
        expect(store.description).toBe(`${scheme}:127.0.0.1:${subject.port}/${database}`);
        expect(store.leases.description).toBe(store.description);
      });
    });

    testServerMigrations(subject);
    testConnections(subject);
    testServerLeases(subject);
    testServerEvictions(subject);
  });
}
