import { afterAll, describe } from 'vitest';
import { mysqlMissing, startMysql } from '../../support/mysql-server.ts';
import { testLeaseStore } from './leases.contract.ts';
import { testMetadataStore } from './metadata-store.contract.ts';
import { mysqlPlaces } from './mysql-place.ts';

const missing = mysqlMissing();

describe.skipIf(missing !== null)(`MariaDB${missing === null ? '' : `: ${missing}`}`, async () => {
  if (missing !== null) return;
  const server = await startMysql();
  afterAll(() => server.stop());
  const subject = { name: 'MariaDB', create: mysqlPlaces(server) };
  testMetadataStore(subject);
  testLeaseStore(subject);
});
