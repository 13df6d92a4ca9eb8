import { endSpan, startSpan } from '../../telemetry/tracing.ts';
import type { BodyVerifier, VerifiedBody } from './body-verifier.ts';

/** The same verifier, whose work is a span below the active one: from here until it has finished or is given up. */
export function tracedVerifier(key: string, verifier: BodyVerifier): BodyVerifier {
  const span = startSpan('verify', { 'snowcap.key': key });
  if (span === null) return verifier;
  let over = false;
  const end = (error?: unknown): void => {
    if (over) return;
    over = true;
    endSpan(span, error);
  };
  const ending = async <T>(step: Promise<T>): Promise<T> => {
    try {
      return await step;
    } catch (error) {
      end(error);
      throw error;
    }
  };
  return {
    push: (chunk) => ending(verifier.push(chunk)),
    async finish(): Promise<VerifiedBody> {
      const verified = await ending(verifier.finish());
      span.setAttributes({
        'snowcap.bytes': verified.fileSize,
        'snowcap.verification': verified.verification,
      });
      end();
      return verified;
    },
    abort() {
      verifier.abort();
      end();
    },
  };
}
