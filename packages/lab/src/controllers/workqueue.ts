/**
 * What every controller stands on: keys to be looked at, one at a time, again after a failure.
 *
 * A key that is asked for several times before its turn is looked at once. A failure is retried
 * with back-off and told to `failed`; nothing is thrown and nothing forgotten.
 */

export interface QueueOptions {
  /** Looks at one key; what it throws is retried. */
  readonly reconcile: (key: string) => Promise<void>;
  readonly failed?: ((key: string, error: unknown) => void) | undefined;
  /** Milliseconds before retry number `n` (from 0). */
  readonly backOff?: ((n: number) => number) | undefined;
}

export class WorkQueue {
  private readonly waiting = new Set<string>();
  private readonly timers = new Map<string, NodeJS.Timeout>();
  private readonly failures = new Map<string, number>();
  private running = false;
  private stopped = false;

  constructor(private readonly options: QueueOptions) {}

  add(key: string): void {
    if (this.stopped) return;
    this.waiting.add(key);
    if (!this.running) {
      this.running = true;
      setImmediate(() => void this.run());
    }
  }

  /** Looks at the key later, unless it is added before. */
  addAfter(key: string, ms: number): void {
    if (this.stopped || this.timers.has(key)) return;
    this.timers.set(
      key,
      setTimeout(() => {
        this.timers.delete(key);
        this.add(key);
      }, ms),
    );
  }

  stop(): void {
    this.stopped = true;
    this.waiting.clear();
    for (const t of this.timers.values()) clearTimeout(t);
    this.timers.clear();
  }

  private async run(): Promise<void> {
    for (;;) {
      const [key] = this.waiting;
      if (key === undefined || this.stopped) break;
      this.waiting.delete(key);
      try {
        await this.options.reconcile(key);
        this.failures.delete(key);
      } catch (e) {
        const n = this.failures.get(key) ?? 0;
        this.failures.set(key, n + 1);
        try {
          this.options.failed?.(key, e);
        } catch {
          // Who is to hear of failures fails himself; the retry below goes on.
        }
        this.addAfter(key, (this.options.backOff ?? defaultBackOff)(n));
      }
    }
    this.running = false;
  }
}

const defaultBackOff = (n: number): number => Math.min(10_000, 50 * 2 ** Math.min(n, 10));
