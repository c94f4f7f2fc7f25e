/**
 * A lock that the kernel lets go of when its holder dies, however it dies: no pid in a file that may
 * be another process by now. Source: flock(2). Equivalent: `flock -n FILE COMMAND`. Cost: three system calls.
 */
import { closeSync, fstatSync, openSync, rmSync, statSync } from 'node:fs';
import { c, errnoName, lastErrno } from './libc.js';
import { PodwayError } from '@podway/errors';

const LOCK_EX = 2;
const LOCK_NB = 4;

export interface FileLock {
  /** Lets go and takes the file away. */
  release(): void;
}

/**
 * Makes the file if there is none (mode 0600) and locks it, without waiting.
 * @returns undefined when somebody else has it. @throws LOCK_FAILED
 */
export function lockFile(path: string): FileLock | undefined {
  for (;;) {
    const fd = openSync(path, 'a', 0o600);
    if (c.flock(fd, LOCK_EX | LOCK_NB) !== 0) {
      const errno = errnoName(lastErrno());
      closeSync(fd);
      if (errno === 'EAGAIN') return undefined;
      throw new PodwayError('LOCK_FAILED', `cannot lock ${path}`, { object: path, errno });
    }
    // Between open and lock its last holder may have taken the file away: then this lock locks nothing.
    if (fstatSync(fd).ino === statSync(path, { throwIfNoEntry: false })?.ino) {
      return {
        release() {
          rmSync(path, { force: true });
          closeSync(fd);
        },
      };
    }
    closeSync(fd);
  }
}
