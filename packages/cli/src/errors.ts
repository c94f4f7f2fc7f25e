/**
 * Errors as people and programs read them. The one place where an error becomes text.
 *
 *   error: cannot add route 10.244.1.0/24 via …: Nexthop has invalid gateway (ENETUNREACH)
 *     netns podway-default-m1
 *     hint: Bring the uplink up first.
 *
 * What is not a PodwayError is a bug in Podway: it is shown with its stack.
 */
import { messageOf, PodwayError } from '@podway/errors';
import { makeTheme, type Theme } from './theme.js';

export function renderError(error: unknown, theme: Theme = makeTheme(false)): string {
  if (error instanceof PodwayError) {
    return [
      `${theme.bad('error:')} ${error.message}`,
      ...(error.object === undefined || saysAll(error.message, error.object) ? [] : [`  ${error.object}`]),
      ...(error.hint === undefined ? [] : [`  ${theme.warn('hint:')} ${error.hint}`]),
    ].join('\n');
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : `thrown: ${String(error)}`;
  return [
    `${theme.bad('error:')} this is a bug in podway`,
    ...stack.split('\n').map((line) => `  ${line}`),
    `  ${theme.warn('hint:')} Please report it, with the command line and the lines above.`,
  ].join('\n');
}

/** `there is no node m9` needs no second line `node m9`. */
const saysAll = (message: string, object: string): boolean => object.split(/\s+/).every((word) => message.includes(word));

/** `{ "error": { code, message, object?, errno?, hint? } }`; a bug has the code INTERNAL and its stack. */
export function errorJson(error: unknown): { readonly error: Readonly<Record<string, unknown>> } {
  if (error instanceof PodwayError) return { error: error.toJSON() };
  const e = error instanceof Error ? error : new Error(String(error));
  return { error: { code: 'INTERNAL', message: e.message, stack: e.stack?.split('\n').map((l) => l.trim()) } };
}

export function usageError(message: string, hint?: string): PodwayError {
  return new PodwayError('USAGE', message, hint === undefined ? {} : { hint });
}

/** The file system's own error about a file that the user named, instead of a stack. `said` is the system's text without its repetitions. */
export function fileError(path: string, e: unknown): PodwayError {
  const errno = (e as NodeJS.ErrnoException).code;
  const said = messageOf(e).replace(/^[A-Z0-9]+: /, '').replace(/, \w+( '.*')?$/, '');
  return new PodwayError('FILE_NOT_WRITABLE', `cannot write ${path}`, {
    object: path, said, cause: e, ...(errno === undefined ? {} : { errno }),
    hint: errno === 'ENOENT' ? 'Its folder does not exist: make it first, or choose another place.' : 'Choose a place that can be written, with room for it.',
  });
}
