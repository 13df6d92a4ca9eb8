import { afterAll, describe } from 'vitest';
import { pgbouncerMissing, startPgbouncer } from '../../support/pgbouncer.ts';
import { postgresMissing, startPostgres } from '../../support/postgres-server.ts';
import { testConcurrency } from './concurrency.contract.ts';
import { testLeaseStore } from './leases.contract.ts';
import { testMetadataStore } from './metadata-store.contract.ts';
import { testModel } from './model.contract.ts';
import { postgresPlaces } from './postgres-place.ts';
import { atPort } from './server-subject.ts';

const missing = postgresMissing();

describe.skipIf(missing !== null)(`PostgreSQL${missing === null ? '' : `: ${missing}`}`, async () => {
  if (missing !== null) return;
  const server = await startPostgres();
  afterAll(() => server.stop());

  const subject = { name: 'PostgreSQL', create: postgresPlaces(server) };
  testMetadataStore(subject);
  testLeaseStore(subject);

  describe('with prepared statements', () => {
    const subject = {
      name: 'PostgreSQL with prepared statements',
      create: postgresPlaces(server, (url) => `${url}?prepare=true`),
    };
    testConcurrency(subject);
    testModel(subject);
  });

  const noPooler = pgbouncerMissing();
  describe.skipIf(noPooler !== null)(
    `behind PgBouncer${noPooler === null ? '' : `: ${noPooler}`}`,
    async () => {
      if (noPooler !== null) return;
      const pooler = await startPgbouncer(server);
      afterAll(() => pooler.stop());
      testMetadataStore({
        name: 'PostgreSQL behind PgBouncer in transaction mode',
        create: postgresPlaces(server, (url) => atPort(url, pooler.port)),
      });
    },
  );
});
