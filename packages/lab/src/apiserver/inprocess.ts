/**
 * ObjectClient without a network: the same operations, on the same storage, in this process.
 * Every object is copied on its way in and out, so that no caller can change what is stored.
 */
import { isPodwayError, PodwayError, messageOf } from '@podway/errors';
import {
  describeObject,
  kubeError,
  type DeleteOptions,
  type KubeObject,
  type ObjectClient,
  type ObjectKind,
  type PatchOptions,
  type Selection,
  type WatchEventType,
  type WatchHandlers,
} from '@podway/kube';
import { ApiError, badRequest, noSuchPath } from './errors.js';
import type { KindSpec } from './kinds/spec.js';
import { clone } from './object.js';
import type { Operations, Target } from './operations.js';

export class InProcessClient implements ObjectClient {
  constructor(
    private readonly operations: Operations,
    private readonly fieldManager: string,
  ) {}

  get<T extends KubeObject>(kind: ObjectKind<T>, name: string, namespace?: string): Promise<T> {
    return this.run('read', kind, name, namespace, (spec) => this.operations.get(spec, this.target(kind, name, namespace)) as KubeObject as T);
  }

  list<T extends KubeObject>(kind: ObjectKind<T>, selection: Selection = {}): Promise<T[]> {
    return this.run('list', kind, undefined, selection.namespace, (spec) => [...this.operations.list(spec, selection).items] as KubeObject[] as T[]);
  }

  create<T extends KubeObject>(kind: ObjectKind<T>, object: T): Promise<T> {
    const { name, namespace } = object.metadata ?? {};
    return this.run('create', kind, name, namespace, (spec) => this.operations.create(spec, namespace, object, { fieldManager: this.fieldManager }).object as KubeObject as T);
  }

  update<T extends KubeObject>(kind: ObjectKind<T>, object: T, subresource?: 'status'): Promise<T> {
    const { name = '', namespace } = object.metadata ?? {};
    return this.run('update', kind, name, namespace, (spec) => {
      const options = { fieldManager: this.fieldManager, subresource };
      return this.operations.update(spec, this.target(kind, name, namespace), object, options).object as KubeObject as T;
    });
  }

  patch<T extends KubeObject>(kind: ObjectKind<T>, target: Target & { readonly namespace?: string }, patch: unknown, options: PatchOptions): Promise<T> {
    return this.run('patch', kind, target.name, target.namespace, (spec) => {
      if (options.subresource === 'scale') throw noSuchPath();
      if (options.subresource === 'status' && !spec.subresources.includes('status')) throw noSuchPath();
      return this.operations.patch(spec, this.target(kind, target.name, target.namespace), clone(patch), {
        type: options.type,
        subresource: options.subresource,
        fieldManager: options.fieldManager ?? this.fieldManager,
        force: options.force === true,
      }).object as KubeObject as T;
    });
  }

  async delete<T extends KubeObject>(kind: ObjectKind<T>, target: { readonly name: string; readonly namespace?: string }, options: DeleteOptions = {}): Promise<void> {
    await this.run('delete', kind, target.name, target.namespace, (spec) => {
      this.operations.delete(spec, this.target(kind, target.name, target.namespace), {
        gracePeriodSeconds: options.gracePeriodSeconds,
        ...(options.uid === undefined ? {} : { preconditions: { uid: options.uid } }),
      });
    });
  }

  watch<T extends KubeObject>(kind: ObjectKind<T>, selection: Selection, handlers: WatchHandlers<T>): () => void {
    let ended = false;
    let stop: (() => void) | undefined;
    // Events are handed over in a later turn: a handler that writes must not run inside the write
    // that it hears of, and a handler's error must not reach the writer.
    const queue: (() => void)[] = [];
    const later = (call: () => void): void => {
      queue.push(call);
      if (queue.length === 1) setImmediate(drain);
    };
    const drain = (): void => {
      while (queue.length > 0) {
        const call = queue[0];
        try {
          if (!ended) call?.();
        } catch (e) {
          lost(e);
        }
        queue.shift();
      }
    };
    const lost = (e: unknown): void => {
      try {
        if (!ended) handlers.lost?.(e);
      } catch {
        // Whoever is to hear of errors fails himself: nobody is left to tell.
      }
    };
    const event = (type: WatchEventType, object: object): void => {
      later(() => {
        handlers.event(type, clone(object) as T);
      });
    };
    try {
      stop = this.operations.watch(this.spec(kind), { ...selection, resourceVersion: '' }, { event, bookmark: () => undefined });
      later(() => handlers.synced?.());
    } catch (e) {
      const told = translate(e, 'watch', kind, undefined, selection.namespace);
      later(() => {
        lost(told);
      });
    }
    return () => {
      ended = true;
      stop?.();
    };
  }

  private target(kind: ObjectKind<KubeObject>, name: string, namespace: string | undefined): Target {
    return kind.namespaced ? { name, namespace: namespace ?? 'default' } : { name };
  }

  private spec(kind: ObjectKind<KubeObject>): KindSpec {
    const spec = this.operations.registry.of(kind);
    if (spec === undefined) throw noSuchPath();
    return spec;
  }

  private run<T, R>(verb: string, kind: ObjectKind<T & KubeObject>, name: string | undefined, namespace: string | undefined, act: (spec: KindSpec) => R): Promise<R> {
    try {
      if (name === '') throw badRequest('name must be provided');
      return Promise.resolve(clone(act(this.spec(kind))));
    } catch (e) {
      return Promise.reject(translate(e, verb, kind, name, namespace));
    }
  }
}

export function translate(e: unknown, verb: string, kind: ObjectKind<KubeObject>, name: string | undefined, namespace: string | undefined): PodwayError {
  const object = describeObject(kind, name, namespace);
  if (e instanceof ApiError) return kubeError(e.status(), `cannot ${verb} ${object}`, object);
  if (isPodwayError(e)) return e;
  return new PodwayError('KUBE_UNAVAILABLE', `cannot ${verb} ${object}`, { object, said: messageOf(e), cause: e });
}
