import type { SettingTable, SharedSettingName } from './setting.ts';

/** Settings under names that other programs read too, so that one environment serves them all. */
export const SHARED_SETTINGS: SettingTable<SharedSettingName> = {
  HTTPS_PROXY: {
    fallbacks: ['https_proxy'],
    flag: null,
    placeholder: '<url>',
    default: null,
    description: 'Proxy for https upstreams; lower case is read too',
    secret: 'url',
  },
  HTTP_PROXY: {
    fallbacks: ['http_proxy'],
    flag: null,
    placeholder: '<url>',
    default: null,
    description: 'Proxy for http upstreams; lower case is read too',
    secret: 'url',
  },
  NO_PROXY: {
    fallbacks: ['no_proxy'],
    flag: null,
    placeholder: '<hosts>',
    default: null,
    description: 'Hosts that are asked without a proxy, separated by commas; lower case is read too',
  },
  UPSTASH_REDIS_REST_URL: {
    flag: null,
    placeholder: '<urls>',
    default: null,
    description:
      'Redis over HTTP for `SNOWCAP_LOCK=upstash`; three or more, separated by spaces, form a Redlock',
    secret: 'url',
  },
  UPSTASH_REDIS_REST_TOKEN: {
    flag: null,
    placeholder: '<tokens>',
    default: null,
    description: 'Its token, or as many as there are URLs',
    secret: 'key',
  },
  AWS_REGION: {
    fallbacks: ['AWS_DEFAULT_REGION'],
    flag: null,
    placeholder: '<region>',
    default: null,
    description: 'Region of the bucket where its URL has none; `AWS_DEFAULT_REGION` is read too',
  },
  AWS_ACCESS_KEY_ID: {
    flag: null,
    placeholder: '<id>',
    default: null,
    description:
      'Key for S3; without it, Node and Lambda look where every AWS program does (profile, role, metadata service)',
    secret: 'key',
  },
  AWS_SECRET_ACCESS_KEY: {
    flag: null,
    placeholder: '<key>',
    default: null,
    description: 'The secret that goes with it',
    secret: 'key',
  },
  AWS_SESSION_TOKEN: {
    flag: null,
    placeholder: '<token>',
    default: null,
    description: 'The token that goes with temporary ones',
    secret: 'key',
  },
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    flag: null,
    placeholder: '<url>',
    default: null,
    description: 'Collector that takes traces as OTLP over HTTP; without it nothing is traced',
    secret: 'url',
  },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: {
    flag: null,
    placeholder: '<url>',
    default: null,
    description: 'The same, with the whole path for traces',
    secret: 'url',
  },
  OTEL_EXPORTER_OTLP_HEADERS: {
    flag: null,
    placeholder: '<headers>',
    default: null,
    description: 'Headers for the collector, as `name=value,name=value`',
    secret: 'key',
  },
  OTEL_SERVICE_NAME: {
    flag: null,
    placeholder: '<name>',
    default: null,
    defaultText: '`service.name` of the attributes, else `snowcap`',
    description: 'Name of the service in traces',
  },
  OTEL_RESOURCE_ATTRIBUTES: {
    flag: null,
    placeholder: '<attributes>',
    default: null,
    description: 'What else is said of it, as `name=value,name=value`',
  },
  OTEL_TRACES_SAMPLER: {
    flag: null,
    placeholder: '<sampler>',
    default: 'parentbased_always_on',
    description: 'Which requests are traced, by the names of OpenTelemetry (`parentbased_traceidratio`, …)',
  },
  OTEL_TRACES_SAMPLER_ARG: {
    flag: null,
    placeholder: '<ratio>',
    default: '1',
    description: 'The part of the requests for a sampler by ratio, from 0 to 1',
  },
  OTEL_SDK_DISABLED: {
    flag: null,
    placeholder: '<true|false>',
    default: 'false',
    description: 'Turns traces off whatever else is set',
  },
};
