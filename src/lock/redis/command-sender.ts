/** A way to one Redis: over REST, or over a connection of its own. */
export interface CommandSender {
  /** For logs, without any secret, as `redis:host:6379/0`. */
  readonly description: string;

  /**
   * Sends one command. It settles in the end, but that may take longer than anybody waits; a command
   * that failed may have been executed all the same.
   *
   * @returns the reply as it came: numbers, strings, null, arrays of them
   * @throws LockRefusedError where Redis answered with an error, LockServiceError where it did not answer
   */
  send(command: readonly [string, ...string[]]): Promise<unknown>;

  /**
   * Calls back with what is published on a channel from now on, as far as the connection lasts. May be called again at
   * any time, which does nothing while it listens.
   */
  listen?(channel: string, listener: (message: string) => void): void;

  /** Commands under way fail. */
  close(): Promise<void>;
}
