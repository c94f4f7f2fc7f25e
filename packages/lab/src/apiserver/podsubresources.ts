/**
 * What the node runtime implements for the API server: the verbs on a pod that reach its
 * containers. Registered once the runtime is there; until then they answer 501.
 */
import type { Writable } from 'node:stream';
import type { Pod } from '@podway/kube';

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
}
