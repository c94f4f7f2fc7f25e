/**
 * The one error class of the house.
 *
 * Everything that can go wrong in Podway is told with the same four parts, so that a
 * person (and a program reading `-o json`) always finds them in the same place:
 * a stable code, what was being done to which object, the kernel's or peer's own words,
 * and what to do about it.
 */

export interface ErrorDetails {
  /** The object it happened to, by name: `link cni0 in netns podway-default-m1`. */
  readonly object?: string;
  /** The words of whoever refused (extended ACK text, strerror, HTTP status message). */
  readonly said?: string;
  /** errno by name (`EEXIST`), where the kernel answered. */
  readonly errno?: string;
  /** What the reader should do. One sentence, imperative, a command where there is one. */
  readonly hint?: string;
  readonly cause?: unknown;
}

export class PodwayError extends Error {
  override readonly name = 'PodwayError';
  readonly object: string | undefined;
  readonly said: string | undefined;
  readonly errno: string | undefined;
  readonly hint: string | undefined;

  /**
   * @param code stable, upper snake case (`NETLINK_REFUSED`): tests and scripts match on it.
   * @param message what was being done, in words, without the kernel's text.
   */
  constructor(
    readonly code: string,
    message: string,
    details: ErrorDetails = {},
  ) {
    super(
      [message, details.said && details.errno ? `${details.said} (${details.errno})` : (details.said ?? details.errno)]
        .filter(Boolean)
        .join(': '),
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.object = details.object;
    this.said = details.said;
    this.errno = details.errno;
    this.hint = details.hint;
  }

  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      ...(this.object === undefined ? {} : { object: this.object }),
      ...(this.errno === undefined ? {} : { errno: this.errno }),
      ...(this.hint === undefined ? {} : { hint: this.hint }),
    };
  }
}

/** True for a PodwayError with this code (or any code, when none is given). */
export function isPodwayError(e: unknown, code?: string): e is PodwayError {
  return e instanceof PodwayError && (code === undefined || e.code === code);
}

/** The message of anything that was thrown. */
export function messageOf(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}

export { nearest } from './nearest.js';
