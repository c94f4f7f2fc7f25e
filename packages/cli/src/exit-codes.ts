/**
 * What the exit code says, in one table; `podway help exit-codes` prints it.
 * Which error leads to which code is decided by its stable code, never by its text.
 */
import { PodwayError } from '@podway/errors';

export const EXIT = { ok: 0, failed: 1, usage: 2, needsRoot: 77, interrupted: 130, terminated: 143 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_CODES: readonly { readonly code: number; readonly meaning: string }[] = [
  { code: EXIT.ok, meaning: 'done; the answer is yes' },
  { code: EXIT.failed, meaning: 'it failed, or the answer is no (not reachable, not ready, a finding)' },
  { code: EXIT.usage, meaning: 'wrong usage, or what was asked about could not be looked at' },
  { code: EXIT.needsRoot, meaning: 'root is needed; nothing was done' },
  { code: EXIT.interrupted, meaning: 'interrupted with Ctrl-C; what was begun was cleaned up' },
  { code: EXIT.terminated, meaning: 'terminated by a signal; what was begun was cleaned up' },
];

const BY_ERROR: Readonly<Record<string, number>> = {
  USAGE: EXIT.usage,
  NETNS_NOT_FOUND: EXIT.usage,
  NETNS_NOT_A_NAMESPACE: EXIT.usage,
  NETNS_BAD_NAME: EXIT.usage,
  BAD_IFNAME: EXIT.usage,
  BAD_ADDRESS: EXIT.usage,
  LAB_NOT_RUNNING: EXIT.usage,
  LAB_BAD_NAME: EXIT.usage,
  LAB_FILE_INVALID: EXIT.usage,
  NODE_INVALID: EXIT.usage,
  NODE_EXISTS: EXIT.usage,
  LESSON_WORKERS: EXIT.usage,
  LESSON_SANDBOX: EXIT.usage,
  NODE_NOT_FOUND: EXIT.usage,
  TARGET_NOT_FOUND: EXIT.usage,
  POD_NOT_FOUND: EXIT.usage,
  CONTAINER_NOT_FOUND: EXIT.usage,
  KUBE_NOT_FOUND: EXIT.usage,
  KUBE_INVALID: EXIT.usage,
  FILE_NOT_WRITABLE: EXIT.usage,
  CAPTURE_BAD_FILTER: EXIT.usage,
  NOT_FOUND: EXIT.usage,
  ADDRESS_IN_USE: EXIT.usage,
  ADDRESS_NOT_HERE: EXIT.usage,
  NEEDS_ROOT: EXIT.needsRoot,
  INTERRUPTED: EXIT.interrupted,
  TERMINATED: EXIT.terminated,
};

/** @param root whether this process is root: a refusal for lack of rights then has another cause. */
export function exitCodeOf(error: unknown, root = process.geteuid?.() === 0): number {
  if (!(error instanceof PodwayError)) return EXIT.failed;
  if (!root && error.errno === 'EPERM') return EXIT.needsRoot;
  return BY_ERROR[error.code] ?? EXIT.failed;
}
