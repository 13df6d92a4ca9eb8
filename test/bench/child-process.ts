import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * A part of the bench that runs in a process of its own, so that its work is not done on the thread of
 * another part. Calls and answers are JSON over the channel of `fork`; one call at a time.
 */
export interface Remote<Call, Answer> {
  call(call: Call): Promise<Answer>;
  stop(): Promise<void>;
}

type Reply<Answer> =
  { readonly ok: true; readonly answer: Answer } | { readonly ok: false; readonly error: string };

/**
 * Starts a file of this folder that ends in `answerCalls`.
 *
 * @param file as `client-process.ts`
 */
export function startRemote<Call, Answer>(file: string): Remote<Call, Answer> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
    execArgv: [],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  return {
    call: (call) => callChild<Answer>(child, file, call),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.disconnect();
      await gone;
    },
  };
}

function callChild<Answer>(child: ChildProcess, file: string, call: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => reject(new Error(`${file} ended before it answered`));
    child.once('exit', onExit);
    child.once('message', (message) => {
      child.off('exit', onExit);
      const reply = message as Reply<Answer>;
      if (reply.ok) resolve(reply.answer);
      else reject(new Error(`${file}: ${reply.error}`));
    });
    child.send(call as object);
  });
}

/** The other side of `startRemote`. The process ends when the bench goes away. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- names both sides of the channel, as in Remote
export function answerCalls<Call, Answer>(handle: (call: Call) => Promise<Answer>): void {
  const send = (reply: Reply<Answer>): void => {
    process.send?.(reply);
  };
  process.on('message', (message) => {
    handle(message as Call).then(
      (answer) => send({ ok: true, answer }),
      (error: unknown) =>
        send({ ok: false, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
  process.on('disconnect', () => process.exit(0));
}
