import type { Config } from '../config/config.ts';
import type { OpenTracing, TracingOptions } from '../telemetry/otel-tracing.ts';

/** Loads OpenTelemetry only where there is a collector: it costs memory, and time at the start. */
export async function openTracing(
  { tracing }: Config,
  options: Pick<TracingOptions, 'version' | 'exporting' | 'logger' | 'metrics'>,
): Promise<OpenTracing | null> {
  if (tracing === null) return null;
  const { createTracing } = await import('../telemetry/otel-tracing.ts');
  return createTracing({ ...tracing, ...options });
}
