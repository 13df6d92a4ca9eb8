/** One thing that is wrong. Holds no secret. */
export interface ConfigProblem {
  /** The variable or flag that it was read from. */
  readonly source: string;
  /** What was given, secrets masked; null where the name itself is the problem. */
  readonly given: string | null;
  /** What was expected, or what is wrong, in a clause. */
  readonly message: string;
}
