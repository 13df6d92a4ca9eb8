import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** What a vitest test or hook gives to skip itself; `context.skip` of `it` and of `beforeAll`. */
export interface Skippable {
  skip(note?: string): unknown;
}

/** Whether this is the gate, where nothing may be skipped for want of a tool. */
function inContinuousIntegration(): boolean {
  return process.env['CI'] === 'true';
}

/** The first of `names` that is not an executable on PATH; null if all of them are. */
export function missingTool(names: readonly string[]): string | null {
  const directories = (process.env['PATH'] ?? '').split(delimiter).filter((directory) => directory !== '');
  return names.find((name) => !directories.some((directory) => isExecutable(join(directory, name)))) ?? null;
}

/**
 * Why a suite that needs these tools cannot run here; null if it can. For `describe.skipIf` use
 * `skipReason(…) !== null` and say the reason in the name of the suite.
 *
 * @throws Error where CI=true: there a missing tool is a failure, not a skip
 */
export function skipReason(...names: readonly string[]): string | null {
  const missing = missingTool(names);
  if (missing === null) return null;
  if (inContinuousIntegration())
    throw new Error(`Cannot run the tests: ${missing} is not installed (CI=true)`);
  return `${missing} is not installed`;
}

/**
 * Skips the running test, with the reason printed, where a tool is missing.
 *
 * @throws Error where CI=true
 */
export function requireTool(context: Skippable, ...names: readonly string[]): void {
  const reason = skipReason(...names);
  if (reason !== null) context.skip(reason);
}

/**
 * Skips the running test, with the reason printed, where a server does not answer.
 *
 * @param name for the reason, as `redis`
 * @param probe resolves if the server can be used
 * @throws Error where CI=true
 */
export async function requireServer(
  context: Skippable,
  name: string,
  probe: () => Promise<unknown>,
): Promise<void> {
  try {
    await probe();
  } catch (cause) {
    if (inContinuousIntegration())
      throw new Error(`Cannot run the tests: ${name} does not answer (CI=true)`, { cause });
    context.skip(`${name} does not answer: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
