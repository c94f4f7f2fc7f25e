/**
 * What the node runtime implements for the API server: the verbs on a pod that reach its
 * containers. Registered once the runtime is there; until then they answer 501.
 */
import type { Duplex, Writable } from 'node:stream';
import type { Pod } from '@podway/kube';
import type { CommandRequest, RemoteProcess } from '../streaming/remote.js';

export interface LogOptions {
  /** Set by the server when the pod has exactly one container or a default-container annotation. */
  readonly container: string;
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  readonly tailLines?: number;
  readonly sinceSeconds?: number;
  /** RFC 3339. */
  readonly sinceTime?: string;
  readonly limitBytes?: number;
}

export interface PodSubresources {
  /**
   * Writes the log and ends `out` (after the container's end when following). Rejects with an
   * error whose message is for the user before the first byte is written. Stop on `signal`.
   */
  log(pod: Pod, options: LogOptions, out: Writable, signal: AbortSignal): Promise<void>;
  /** Says before any stream is opened what is wrong with the request; its message is for the user. */
  check(pod: Pod, container: string | undefined): void;
  /** Errors: PodwayError whose message is for the user. */
  exec(pod: Pod, request: CommandRequest, command: readonly string[]): Promise<RemoteProcess>;
  attach(pod: Pod, request: CommandRequest): Promise<RemoteProcess>;
  /** A connection to a port on the loopback inside the pod. */
  connect(pod: Pod, port: number): Promise<Duplex>;
}
