/** An ObjectClient over a map, for tests of the agent: what the API server would say, without one. */
import { PodwayError } from '@podway/errors';
import type { KubeObject, ObjectClient, ObjectKind, Selection, WatchHandlers } from '@podway/kube';

type Listener = { kind: string; handlers: WatchHandlers<KubeObject> };

export class MemoryClient implements ObjectClient {
  private readonly objects = new Map<string, KubeObject>();
  private readonly listeners = new Set<Listener>();
  private readonly waiting: (() => void)[] = [];
  private isDown = false;
  /** How many `get` were asked. */
  gets = 0;

  /** True makes every call fail and every new watch wait, as when the server is out of reach. */
  set down(down: boolean) {
    this.isDown = down;
    if (!down) for (const begin of this.waiting.splice(0)) begin();
  }

  private key(kind: ObjectKind<KubeObject>, name: string, namespace = ''): string {
    return `${kind.plural}/${namespace}/${name}`;
  }

  put<T extends KubeObject>(kind: ObjectKind<T>, object: T): void {
    const key = this.key(kind, object.metadata?.name ?? '', object.metadata?.namespace);
    const type = this.objects.has(key) ? 'MODIFIED' : 'ADDED';
    this.objects.set(key, structuredClone(object));
    for (const l of this.listeners) if (l.kind === kind.plural) l.handlers.event(type, structuredClone(object));
  }

  remove<T extends KubeObject>(kind: ObjectKind<T>, name: string, namespace?: string): void {
    const key = this.key(kind, name, namespace);
    const object = this.objects.get(key);
    this.objects.delete(key);
    if (object) for (const l of this.listeners) if (l.kind === kind.plural) l.handlers.event('DELETED', object);
  }

  private check(): void {
    if (this.isDown) throw new PodwayError('KUBE_UNAVAILABLE', 'the API server does not answer');
  }

  get<T extends KubeObject>(kind: ObjectKind<T>, name: string, namespace?: string): Promise<T> {
    return Promise.resolve().then(() => {
      this.gets++;
      this.check();
      const object = this.objects.get(this.key(kind, name, namespace));
      if (!object) throw new PodwayError('KUBE_NOT_FOUND', `${kind.plural} "${name}" not found`);
      return structuredClone(object) as T;
    });
  }

  list<T extends KubeObject>(kind: ObjectKind<T>, _selection?: Selection): Promise<T[]> {
    return Promise.resolve().then(() => {
      this.check();
      return [...this.objects].filter(([k]) => k.startsWith(`${kind.plural}/`)).map(([, o]) => structuredClone(o) as T);
    });
  }

  create<T extends KubeObject>(kind: ObjectKind<T>, object: T): Promise<T> {
    return Promise.resolve().then(() => {
      this.check();
      const { name = '', namespace } = object.metadata ?? {};
      if (this.objects.has(this.key(kind, name, namespace))) throw new PodwayError('KUBE_ALREADY_EXISTS', `${kind.plural} "${name}" already exists`);
      this.put(kind, object);
      return object;
    });
  }

  update<T extends KubeObject>(kind: ObjectKind<T>, object: T): Promise<T> {
    return Promise.resolve().then(() => {
      this.check();
      this.put(kind, object);
      return object;
    });
  }

  async patch<T extends KubeObject>(kind: ObjectKind<T>, target: { name: string; namespace?: string }, patch: unknown): Promise<T> {
    const object = await this.get(kind, target.name, target.namespace);
    const merge = (into: Record<string, unknown>, from: Record<string, unknown>): Record<string, unknown> => {
      for (const [k, v] of Object.entries(from)) {
        into[k] = v !== null && typeof v === 'object' && !Array.isArray(v) ? merge((into[k] ?? {}) as Record<string, unknown>, v as Record<string, unknown>) : v;
      }
      return into;
    };
    const merged = merge(object as Record<string, unknown>, patch as Record<string, unknown>) as T;
    this.put(kind, merged);
    return merged;
  }

  delete<T extends KubeObject>(kind: ObjectKind<T>, target: { name: string; namespace?: string }): Promise<void> {
    return Promise.resolve().then(() => this.remove(kind, target.name, target.namespace));
  }

  watch<T extends KubeObject>(kind: ObjectKind<T>, _selection: Selection, handlers: WatchHandlers<T>): () => void {
    const listener: Listener = { kind: kind.plural, handlers: handlers as unknown as WatchHandlers<KubeObject> };
    const begin = (): void => {
      if (ended) return;
      if (this.isDown) {
        this.waiting.push(begin);
        handlers.lost?.(new PodwayError('KUBE_UNAVAILABLE', 'the API server does not answer'));
        return;
      }
      for (const [k, o] of this.objects) if (k.startsWith(`${kind.plural}/`)) handlers.event('ADDED', structuredClone(o) as T);
      this.listeners.add(listener);
      handlers.synced?.();
    };
    let ended = false;
    queueMicrotask(begin);
    return () => {
      ended = true;
      this.listeners.delete(listener);
    };
  }
}
