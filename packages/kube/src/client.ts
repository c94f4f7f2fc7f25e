/**
 * How every part of Podway reads and writes Kubernetes objects.
 *
 * Two implementations pass one contract suite: the lab's embedded API server hands out an
 * in-process one, and the agent uses a remote one on top of @kubernetes/client-node. Objects
 * are plain JSON as it travels on the wire (timestamps are RFC 3339 strings), never classes.
 */
import type { KubeObject, ObjectKind } from './objects.js';

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED';

export interface WatchHandlers<T extends KubeObject> {
  /** One object appeared, changed or went. */
  event(type: WatchEventType, object: T): void;
  /**
   * The list is complete: called once after the ADDED events of the first list, and again
   * after every relist (whose differences have by then been delivered as events).
   */
  synced?(): void;
  /** The connection was lost; the watch goes on by itself with back-off. For logs and status. */
  lost?(error: unknown): void;
}

export interface Selection {
  readonly namespace?: string;
  /** Kubernetes syntax, `app=web,tier!=db`. */
  readonly labelSelector?: string;
  /** Kubernetes syntax, `spec.nodeName=m1`. */
  readonly fieldSelector?: string;
}

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply';

export interface PatchOptions {
  readonly type: PatchType;
  readonly subresource?: 'status' | 'scale';
  readonly fieldManager?: string;
  readonly force?: boolean;
}

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  /** Refuse when the object has another uid by now (409 Conflict). */
  readonly uid?: string;
}

/**
 * Errors: PodwayError with code `KUBE_NOT_FOUND` (404), `KUBE_ALREADY_EXISTS` or `KUBE_CONFLICT`
 * (409), `KUBE_INVALID` (422, 400), `KUBE_FORBIDDEN` (401, 403), `KUBE_UNAVAILABLE` (no answer,
 * 5xx); `said` is the server's Status message.
 */
export interface ObjectClient {
  get<T extends KubeObject>(kind: ObjectKind<T>, name: string, namespace?: string): Promise<T>;
  list<T extends KubeObject>(kind: ObjectKind<T>, selection?: Selection): Promise<T[]>;
  /** The namespace is taken from the object's metadata. */
  create<T extends KubeObject>(kind: ObjectKind<T>, object: T): Promise<T>;
  /** Replace; fails with KUBE_CONFLICT when metadata.resourceVersion is set and stale. */
  update<T extends KubeObject>(kind: ObjectKind<T>, object: T, subresource?: 'status'): Promise<T>;
  patch<T extends KubeObject>(
    kind: ObjectKind<T>,
    target: { readonly name: string; readonly namespace?: string },
    patch: unknown,
    options: PatchOptions,
  ): Promise<T>;
  delete<T extends KubeObject>(
    kind: ObjectKind<T>,
    target: { readonly name: string; readonly namespace?: string },
    options?: DeleteOptions,
  ): Promise<void>;
  /** List, then watch for ever; returns the function that ends it. Never throws afterwards. */
  watch<T extends KubeObject>(kind: ObjectKind<T>, selection: Selection, handlers: WatchHandlers<T>): () => void;
}
