/**
 * The import boundaries of Snowcap: which part may import which (docs: CONTRIBUTING.md, "The map").
 *
 * Parsed with swc, as dependency-cruiser has no parser for TypeScript 7. Type-only imports count: a part that
 * only names another's types cannot be taken apart from it either.
 */

const NIX = '^src/nix/';
const STREAM = '^src/stream/';
const NAR = '^src/nar/';
/** The files that say what a part needs of the world, and the errors that go with them. */
const INTERFACES = [
  '^src/platform\\.ts$',
  '^src/storage/blob-store\\.ts$',
  '^src/spool/spool\\.ts$',
  '^src/database/(metadata-store|upkeep-store|lease-store|table-rows)\\.ts$',
  '^src/lock/lock-manager\\.ts$',
  '^src/upstream/(transport|upstreams)\\.ts$',
  '^src/telemetry/(logger|metrics|redact|tracing)\\.ts$',
];
/** Implementations of the interfaces, one vendor library or runtime each, with the files that they share. */
const DRIVERS = [
  '^src/(storage|database|lock|spool|telemetry)/',
  '^src/upstream/(undici-|fetch-|redirects\\.ts$)',
];
/** The drivers by themselves. A driver of several files is a folder, or they begin with its name. */
const EACH_DRIVER = [
  '^src/storage/file',
  '^src/storage/memory',
  '^src/storage/r2',
  '^src/storage/s3/',
  '^src/database/sqlite/',
  '^src/database/postgres/',
  '^src/database/mysql/',
  '^src/lock/local',
  '^src/lock/database',
  '^src/lock/redis/',
  '^src/spool/disk',
  '^src/spool/memory',
  '^src/telemetry/otel-',
  '^src/telemetry/pino-',
  '^src/telemetry/prom',
  '^src/telemetry/console-',
  '^src/upstream/undici-',
  '^src/upstream/fetch-',
];
/** The client of other caches: made of interfaces alone, so that it runs everywhere. */
const UPSTREAM = '^src/upstream/';
const CACHE = '^src/cache/';
const SERVER = '^src/server/';
const CONFIG = '^src/config/';
const RUNTIME = '^src/runtime/';
const CLI = '^src/cli/';
const VENDOR = '(^|/)node_modules/';

/** Drivers that need no Node: type-checked without its types (tsconfig.portable.json), and held to that here too. */
const PORTABLE_DRIVERS = [
  '^src/storage/(memory|r2[a-z-]*)\\.ts$',
  '^src/storage/s3/',
  // D1, and what it shares with node:sqlite.
  '^src/database/sqlite/(d1|compile|executor|leases|reads|schema|store|upkeep|writes)\\.ts$',
  '^src/database/postgres/',
  '^src/database/(compile|database-url|eviction-order|index-store|leases|migrations|operation|rank|reads|retry|rows|server-store|tables|table-pages|upkeep|upkeep-reads|upkeep-rows)\\.ts$',
  '^src/lock/(?!redis/tcp\\.ts$)',
];
/** Node modules that Workers implement too, behind one file each. */
const SHARED_NODE_MODULES = [
  '^src/nar/sha256\\.ts$',
  '^src/nar/decompress/zlib\\.ts$',
  '^src/storage/s3/digest\\.ts$',
];
/** Files that a runtime other than Node replaces by one of its own. */
const FOR_NODE = ['^src/nar/xz-module-node\\.ts$', '^src/storage/s3/for-node\\.ts$'];

/** What each part may import of `src`, besides itself. The order is the direction: later ones see earlier ones. */
const PARTS = [
  { name: 'nix', files: [NIX], may: [] },
  { name: 'stream', files: [STREAM], may: [] },
  { name: 'nar', files: [NAR], may: [NIX, STREAM] },
  { name: 'interfaces', files: INTERFACES, may: [NIX, NAR, STREAM] },
  {
    name: 'upstream',
    files: [UPSTREAM],
    except: [...INTERFACES, ...DRIVERS],
    may: [NIX, NAR, STREAM, ...INTERFACES],
  },
  { name: 'config', files: [CONFIG], may: [NIX, ...INTERFACES, '^src/upstream/upstream-url\\.ts$'] },
  { name: 'cache', files: [CACHE], may: [NIX, NAR, STREAM, ...INTERFACES] },
  { name: 'server', files: [SERVER], may: [NIX, NAR, STREAM, CACHE, ...INTERFACES] },
];

/** The only places of each vendor library: replacing one touches one part. */
const VENDORS = [
  { library: '@noble/ed25519', files: [NIX] },
  { library: 'xz-decompress', files: [NAR] },
  { library: 'drizzle-orm', files: ['^src/database/'] },
  { library: '@aws-sdk/client-s3', files: ['^src/storage/s3/'] },
  { library: '@aws-sdk/s3-request-presigner', files: ['^src/storage/s3/'] },
  { library: 'postgres', files: ['^src/database/postgres/'] },
  { library: 'mysql2', files: ['^src/database/mysql/'] },
  { library: 'undici', files: ['^src/upstream/undici-'] },
  { library: 'pino', files: ['^src/telemetry/'] },
  { library: 'pino-pretty', files: ['^src/telemetry/'] },
  { library: 'prom-client', files: ['^src/telemetry/'] },
  { library: '@opentelemetry/api', files: ['^src/telemetry/'] },
  ...['context-async-hooks', 'core', 'exporter-trace-otlp-http', 'resources', 'sdk-trace'].map((part) => ({
    library: `@opentelemetry/${part}`,
    files: ['^src/telemetry/otel-'],
  })),
  { library: 'zod', files: [CONFIG] },
  { library: 'croner', files: [CONFIG, '^src/runtime/node'] },
  { library: '@upstash/redis', files: ['^src/lock/redis/upstash\\.ts$'] },
  { library: '@redis/client', files: ['^src/lock/redis/tcp\\.ts$'] },
  { library: 'lru-cache', files: [CACHE, '^src/storage/', UPSTREAM] },
  { library: 'hono', files: [SERVER, RUNTIME] },
  { library: '@hono/node-server', files: [RUNTIME] },
  { library: '@aws-sdk/client-lambda', files: ['^src/runtime/lambda/'] },
  { library: 'commander', files: [CLI] },
];

/** @param {string} library the name of a package */
const inNodeModules = (library) => `${VENDOR}${library.replaceAll('.', '\\.')}/`;

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...PARTS.map(({ name, files, except = [], may }) => ({
      name: `${name}-imports`,
      comment: `src/${name} imports itself and ${may.length === 0 ? 'no other part' : `only ${may.join(', ')}`}`,
      severity: 'error',
      from: { path: files, pathNot: except },
      to: { path: '^src/', pathNot: [...files, ...may] },
    })),
    {
      name: 'driver-imports',
      comment: 'A driver imports interfaces, nix, nar, stream and its own files',
      severity: 'error',
      from: { path: DRIVERS, pathNot: INTERFACES },
      to: { path: '^src/', pathNot: [NIX, NAR, STREAM, ...INTERFACES, ...DRIVERS] },
    },
    {
      name: 'drivers-from-outside',
      comment: 'Drivers are chosen by runtime and cli; all others know interfaces only',
      severity: 'error',
      from: { path: '^src/', pathNot: [...DRIVERS, RUNTIME, CLI] },
      to: { path: DRIVERS, pathNot: INTERFACES },
    },
    ...EACH_DRIVER.map((driver) => ({
      name: `driver-apart-${driver
        .replaceAll(/[^a-z]+/g, '-')
        .replace(/^-src-/, '')
        .replace(/-$/, '')}`,
      comment: 'Drivers never import each other, and what they share imports none of them',
      severity: 'error',
      from: { path: DRIVERS, pathNot: [driver, ...INTERFACES] },
      to: { path: driver },
    })),
    {
      name: 'runtime-last',
      comment: 'Nobody imports runtime but the command line',
      severity: 'error',
      from: { path: '^src/', pathNot: [RUNTIME, CLI] },
      to: { path: RUNTIME },
    },
    {
      name: 'cli-last',
      comment: 'Nobody imports the command line',
      severity: 'error',
      from: { path: '^src/', pathNot: [CLI] },
      to: { path: CLI },
    },
    {
      name: 'src-without-tests',
      comment: 'What is shipped needs nothing of test, demo and development',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|demo|drizzle)/', pathNot: [] },
    },
    {
      name: 'node-modules-in-place',
      comment:
        'node:* only in drivers for Node, runtime and cli, and in one file for each module that Workers have too',
      severity: 'error',
      from: {
        path: [
          '^src/[^/]+\\.ts$',
          NIX,
          STREAM,
          NAR,
          UPSTREAM,
          CACHE,
          SERVER,
          CONFIG,
          ...INTERFACES,
          ...PORTABLE_DRIVERS,
        ],
        pathNot: [...SHARED_NODE_MODULES, ...FOR_NODE, '^src/upstream/undici-'],
      },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'shared-node-modules',
      comment: 'The files that wrap a module of Workers and Node use just those',
      severity: 'error',
      from: { path: SHARED_NODE_MODULES },
      to: { dependencyTypes: ['core'], pathNot: ['^(node:)?(crypto|zlib)$'] },
    },
    ...VENDORS.map(({ library, files }) => ({
      name: `vendor-${library}`,
      comment: `${library} is used in ${files.join(', ')} only`,
      severity: 'error',
      from: { path: '^src/', pathNot: files },
      to: { path: inNodeModules(library) },
    })),
    {
      name: 'vendor-unknown',
      comment: 'A new library gets its place in the list of this file first',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: VENDOR, pathNot: VENDORS.map(({ library }) => inNodeModules(library)) },
    },
    {
      name: 'no-development-library',
      comment: 'What is shipped runs without devDependencies',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'no-cycles',
      comment: 'Two files that need each other are one file, or need a third (types alone may go round)',
      severity: 'error',
      from: { path: '^src/' },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'resolvable',
      comment: 'Every import leads to a file or a library that is installed',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    parser: 'swc',
    doNotFollow: { path: VENDOR },
    builtInModules: { add: ['node:sqlite'] },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.js', '.json', '.d.ts'],
    },
  },
};
