/** A controller: a process inside the lab that watches objects and brings others in line. */

export interface Controller {
  readonly name: string;
  stop(): void;
}

export interface ControllerOptions {
  /** Told of every failure; the controller retries by itself. */
  readonly failed?: (controller: string, object: string, error: unknown) => void;
}
