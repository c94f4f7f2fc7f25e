/**
 * Ctrl-C and SIGTERM: what was begun is cleaned up, once, last begun first; a second Ctrl-C ends
 * the process at once.
 */
import type { EventEmitter } from 'node:events';
import { PodwayError } from '@podway/errors';
import { EXIT } from './exit-codes.js';

export type Cleanup = () => void | Promise<void>;

const SIGNALS = { SIGINT: 'INTERRUPTED', SIGHUP: 'TERMINATED', SIGTERM: 'TERMINATED' } as const;

export class Interrupts {
  private readonly cleanups: Cleanup[] = [];
  private readonly controller = new AbortController();
  private readonly listeners: [string, () => void][] = [];
  private running: Promise<unknown[]> | undefined;

  constructor(
    private readonly source?: EventEmitter,
    private readonly quit: (code: number) => void = (code) => process.exit(code),
  ) {
    for (const [signal, code] of Object.entries(SIGNALS)) {
      const listener = (): void => {
        if (this.controller.signal.aborted) this.quit(signal === 'SIGINT' ? EXIT.interrupted : EXIT.terminated);
        else this.controller.abort(new PodwayError(code, code === 'INTERRUPTED' ? 'interrupted' : `ended by ${signal}`));
      };
      this.source?.on(signal, listener);
      this.listeners.push([signal, listener]);
    }
  }

  /** Aborted at the first signal; its reason is a PodwayError. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Registers something to be undone when the command ends, however it ends. @returns takes it back. */
  onExit(cleanup: Cleanup): () => void {
    this.cleanups.push(cleanup);
    return () => {
      const at = this.cleanups.indexOf(cleanup);
      if (at >= 0) this.cleanups.splice(at, 1);
    };
  }

  /** Settles with the work, or rejects at the first signal, whichever comes first. */
  race<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.controller;
    return new Promise<T>((resolve, reject) => {
      const stop = (): void => reject(signal.reason as Error);
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
      work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
    });
  }

  /** Runs the clean-ups once; a failing one does not stop those before it. @returns what they threw. */
  finish(): Promise<unknown[]> {
    return (this.running ??= this.runAll());
  }

  private async runAll(): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (let cleanup = this.cleanups.pop(); cleanup; cleanup = this.cleanups.pop()) {
      try {
        await cleanup();
      } catch (e) {
        failures.push(e);
      }
    }
    for (const [signal, listener] of this.listeners) this.source?.off(signal, listener);
    return failures;
  }
}
