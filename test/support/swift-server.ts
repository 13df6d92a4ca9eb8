import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { CreateBucketCommand, ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { skipReason } from './require.ts';
import type { S3Server } from './s3-server.ts';

const run = promisify(execFile);

/** Debian's, for which its Swift is installed. */
const PYTHON = '/usr/bin/python3';
const BUCKET = 'snowcap-test';
const REGION = 'us-east-1';
const CREDENTIALS: S3Server['credentials'] = { accessKeyId: 'test:tester', secretAccessKey: 'testing' };
/** Milliseconds for four Python programs to start, on a busy machine. */
const START_LIMIT = 60_000;

const STORAGE_SERVERS = ['account', 'container', 'object'] as const;

/** Why Swift cannot run here; null if it can. @throws Error where CI=true */
export function swiftSkipReason(): string | null {
  return skipReason(
    'swift-proxy-server',
    'swift-account-server',
    'swift-container-server',
    'swift-object-server',
  );
}

/**
 * Starts OpenStack Swift as Debian packages it (`swift-proxy`, `swift-account`, `swift-container`,
 * `swift-object`), with its S3 API: an implementation that shares nothing with R2's. One process each of
 * proxy, account, container and object server, one replica, one device that is a folder of a temporary
 * directory, on free ports of 127.0.0.1; runs as root or as anybody. Takes three seconds or so. Close it.
 *
 * The temporary directory must have extended attributes (`user.*`), in which Swift keeps what it knows of an
 * object.
 *
 * It checks signatures and `Content-MD5` (which it requires for DeleteObjects), and has ListMultipartUploads
 * and ListParts. Conditional writes are answered with 501.
 */
export async function startSwiftServer(): Promise<S3Server> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-swift-'));
  const children: ChildProcess[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(children.map(ended));
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const ports = await freePorts(1 + STORAGE_SERVERS.length);
    await startServers(directory, ports, children);
    await answering(ports, directory, children);
    const endpoint = `http://127.0.0.1:${ports[0]}`;
    const client = new S3Client({
      endpoint,
      region: REGION,
      credentials: { ...CREDENTIALS },
      forcePathStyle: true,
    });
    await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
    return {
      endpoint,
      region: REGION,
      bucket: BUCKET,
      credentials: CREDENTIALS,
      async openUploads(prefix) {
        const page = await client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET, Prefix: prefix }));
        return (page.Uploads ?? []).map(({ Key }) => Key ?? '').sort();
      },
      async close() {
        client.destroy();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @param ports of the proxy, and of the storage servers */
async function startServers(
  directory: string,
  [proxyPort = 0, ...storagePorts]: readonly number[],
  children: ChildProcess[],
): Promise<void> {
  await mkdir(join(directory, 'devices', 'd1'), { recursive: true });
  await writeFile(
    join(directory, 'swift.conf'),
    ini({
      'swift-hash': { swift_hash_path_suffix: 'test', swift_hash_path_prefix: 'test' },
      'storage-policy:0': { name: 'only', default: 'yes' },
    }),
  );
  await writeFile(join(directory, 'run.py'), RUN_PROGRAM);
  const rings = STORAGE_SERVERS.map((name, index) => `${name}=${storagePorts[index]}`);
  await run(PYTHON, ['-c', RINGS_PROGRAM, directory, ...rings]);
  for (const [index, name] of STORAGE_SERVERS.entries()) {
    const port = storagePorts[index] ?? 0;
    const settings = {
      DEFAULT: {
        ...common(directory, port),
        devices: join(directory, 'devices'),
        mount_check: 'false',
        disable_fallocate: 'true',
      },
      'pipeline:main': { pipeline: `${name}-server` },
      [`app:${name}-server`]: { use: `egg:swift#${name}` },
    };
    children.push(await startServer(directory, name, settings));
  }
  const filters = [
    'catch_errors',
    'gatekeeper',
    'healthcheck',
    'memcache',
    'listing_formats',
    's3api',
    'tempauth',
    'slo',
  ];
  children.push(
    await startServer(directory, 'proxy', {
      DEFAULT: common(directory, proxyPort),
      'pipeline:main': { pipeline: [...filters, 'proxy-server'].join(' ') },
      'app:proxy-server': { use: 'egg:swift#proxy', account_autocreate: 'true' },
      ...Object.fromEntries(filters.map((name) => [`filter:${name}`, { use: `egg:swift#${name}` }])),
      // Authentication wants a cache to be there, though not that it answers: nobody listens on the discard
      // port.
      'filter:memcache': {
        use: 'egg:swift#memcache',
        memcache_servers: '127.0.0.1:9',
        error_suppression_limit: '1',
        error_suppression_interval: '100000',
      },
      'filter:s3api': { use: 'egg:swift#s3api', location: REGION, max_upload_part_num: '10000' },
      'filter:tempauth': { use: 'egg:swift#tempauth', user_test_tester: 'testing .admin' },
    }),
  );
}

/**
 * Writes the rings: one replica of everything on one device. Arguments: the folder, then `name=port` for
 * each.
 */
const RINGS_PROGRAM = `
import os, sys
from swift.common.ring import RingBuilder
for name, port in (ring.split('=') for ring in sys.argv[2:]):
    builder = RingBuilder(1, 1, 0)
    builder.add_dev(dict(region=1, zone=1, ip='127.0.0.1', port=int(port), device='d1', weight=1))
    builder.rebalance()
    builder.get_ring().save(os.path.join(sys.argv[1], name + '.ring.gz'))
`;

/**
 * Runs a program of Swift with our `swift.conf`, whose place it knows by heart. Arguments: that file, the
 * program, its arguments.
 */
const RUN_PROGRAM = `
import runpy, shutil, sys
from swift.common import utils
utils.SWIFT_CONF_FILE = sys.argv[1]
sys.argv = sys.argv[2:]
runpy.run_path(shutil.which(sys.argv[0]), run_name='__main__')
`;

async function startServer(directory: string, name: string, settings: Ini): Promise<ChildProcess> {
  const file = join(directory, `${name}.conf`);
  await writeFile(file, ini(settings));
  const log = join(directory, `${name}.log`);
  const child = spawn(
    'sh',
    [
      '-c',
      'log=$1; shift; exec "$@" >"$log" 2>&1',
      'sh',
      log,
      PYTHON,
      join(directory, 'run.py'),
      join(directory, 'swift.conf'),
      `swift-${name}-server`,
      file,
      '-v',
    ],
    { stdio: 'ignore' },
  );
  child.on('error', () => undefined);
  return child;
}

function common(directory: string, port: number): Record<string, string> {
  return {
    bind_ip: '127.0.0.1',
    bind_port: String(port),
    // In the process itself, with no children.
    workers: '0',
    user: userInfo().username,
    swift_dir: directory,
    log_level: 'WARNING',
  };
}

type Ini = Readonly<Record<string, Readonly<Record<string, string>>>>;

function ini(sections: Ini): string {
  return Object.entries(sections)
    .map(([name, settings]) => {
      const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}`);
      return `[${name}]\n${lines.join('\n')}\n`;
    })
    .join('\n');
}

/**
 * Resolves when all of them answer anything at all: a proxy that is asked before its servers are there avoids
 * them for a minute.
 */
async function answering(
  ports: readonly number[],
  directory: string,
  children: readonly ChildProcess[],
): Promise<void> {
  const deadline = performance.now() + START_LIMIT;
  for (const port of ports) {
    while ((await fetch(`http://127.0.0.1:${port}/healthcheck`).catch(() => null)) === null) {
      if (performance.now() > deadline || children.some(({ exitCode }) => exitCode !== null)) {
        const names = [...STORAGE_SERVERS, 'proxy'];
        const logs = await Promise.all(
          names.map((name) => readFile(join(directory, `${name}.log`), 'utf8').catch(() => '')),
        );
        throw new Error(`Swift did not start:\n${logs.join('\n')}`);
      }
      await sleep(100);
    }
  }
}

/**
 * All different, since all are held at once. Somebody else could take one before Swift does, which then fails
 * to start.
 */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address !== null && typeof address === 'object') ports.push(address.port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exit;
}
