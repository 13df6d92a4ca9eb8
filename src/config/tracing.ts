import type { SamplerConfig, TracingConfig } from './config.ts';
import { ValueError } from './values.ts';

/** The settings of OpenTelemetry, each parsed by itself. */
export interface TracingSettings {
  readonly disabled: boolean;
  readonly endpoint: string | null;
  readonly tracesEndpoint: string | null;
  readonly headers: Readonly<Record<string, string>> | null;
  readonly serviceName: string | null;
  readonly resourceAttributes: Readonly<Record<string, string>> | null;
  readonly sampler: Omit<SamplerConfig, 'ratio'>;
  readonly ratio: number;
}

/** Tracing is on exactly where there is a collector. */
export function tracingOf(settings: TracingSettings): TracingConfig | null {
  const { endpoint, tracesEndpoint, sampler } = settings;
  // The general endpoint is a base: https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp
  const place = tracesEndpoint ?? (endpoint === null ? null : `${endpoint.replace(/\/+$/, '')}/v1/traces`);
  if (settings.disabled || place === null) return null;
  const attributes = settings.resourceAttributes ?? {};
  return {
    endpoint: place,
    headers: settings.headers ?? {},
    serviceName: settings.serviceName ?? attributes['service.name'] ?? 'snowcap',
    resourceAttributes: attributes,
    sampler: { ...sampler, ratio: settings.ratio },
  };
}

/** @throws ValueError */
export function parseCollector(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new ValueError('expected an http or https URL, as http://collector.example:4318');
  }
  return text;
}

/** `name=value,name=value`, the values escaped as in URLs (the form of W3C Baggage). @throws ValueError */
export function parsePairs(text: string): Readonly<Record<string, string>> {
  const pairs: Record<string, string> = {};
  for (const part of text.split(',')) {
    if (part.trim() === '') continue;
    const equals = part.indexOf('=');
    const name = part.slice(0, Math.max(0, equals)).trim();
    const value = unescaped(part.slice(equals + 1).trim());
    if (equals < 1 || name === '' || value === null) throw new ValueError('expected name=value,name=value');
    pairs[name] = value;
  }
  return pairs;
}

const KINDS = ['always_on', 'always_off', 'traceidratio'] as const;

/** @throws ValueError */
export function parseSampler(text: string): Omit<SamplerConfig, 'ratio'> {
  const parentBased = text.startsWith('parentbased_');
  const name = parentBased ? text.slice('parentbased_'.length) : text;
  const kind = KINDS.find((each) => each === name);
  if (kind === undefined) {
    throw new ValueError(
      `expected ${KINDS.map((each) => `"${each}"`).join(', ')}, or one of them behind "parentbased_"`,
    );
  }
  return { kind, parentBased };
}

/** @throws ValueError */
export function parseRatio(text: string): number {
  const ratio = /^\d(\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(ratio <= 1)) throw new ValueError('expected a number from 0 to 1');
  return ratio;
}

function unescaped(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
