import type { Config } from '../config/config.ts';
import type { CliContext } from './context.ts';
import type { Remote } from './place.ts';

/** What the commands below `snowcap nar` have in common. */
export interface NarCommandContext extends CliContext {
  /** `--compression` */
  readonly compression: string | null;
  /** The configuration out of the environment; loaded once, when it is asked for. */
  config(): Promise<Config>;
  /** What reads URLs; made once, when it is asked for. */
  remote(): Promise<Remote>;
}
