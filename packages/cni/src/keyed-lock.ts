/**
 * Work on the same key one after the other, in the order it came; on different keys in
 * parallel; exclusive work alone. What the specification asks of runtimes (no parallel
 * operations on one container; GC alone) and the agent keeps to itself as well.
 */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>();
  #gate: Promise<void> = Promise.resolve();

  /** Run `work` after all earlier work on `key` and all earlier exclusive work. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = Promise.all([this.#tails.get(key), this.#gate]);
    const result = before.then(work);
    const tail = result.then(
      () => undefined,
      () => undefined,
    );
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }

  /** Run `work` after everything that came before it, and before everything that comes after. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = Promise.all([this.#gate, ...this.#tails.values()]).then(work);
    this.#gate = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  /** Keys that have work under way or waiting. */
  get busy(): readonly string[] {
    return [...this.#tails.keys()];
  }
}
