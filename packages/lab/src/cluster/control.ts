/**
 * The door to a lab's process for other processes of root: a unix socket in the lab's folder (0700), one
 * request per connection, JSON lines. The answer is any number of steps and then the result or an error.
 * Requests are worked on one after the other: a node that leaves does not meet one that joins.
 */
import { chmodSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { messageOf, PodwayError } from '@podway/errors';
import type { LabLayout } from './layout.js';

export type ControlRequest =
  | { readonly verb: 'add-node'; readonly node: NewNode }
  | { readonly verb: 'remove-node'; readonly name: string; readonly graceSeconds: number | undefined }
  | { readonly verb: 'install-network' };

/** What each request is answered with. */
export interface ControlResults {
  readonly 'add-node': MembershipResult;
  readonly 'remove-node': MembershipResult;
  readonly 'install-network': InstallResult;
}
type AnyResult = ControlResults[keyof ControlResults];

/** The nodes that have a network now. */
export interface InstallResult {
  readonly nodes: readonly string[];
  readonly ms: number;
}

export interface NewNode {
  readonly name: string;
  /** One, or one a family. */
  readonly address?: string | readonly string[];
  readonly podCIDR?: string | readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly rack?: string;
}

/** A part of the work that has ended. Milliseconds; `at` counts from the request. */
export interface Step {
  readonly name: string;
  readonly at: number;
}

/** What a node joining or leaving came to. */
export interface MembershipResult {
  readonly node: string;
  readonly address: string;
  readonly podCIDR: string;
  /** Those of all families, the first first. */
  readonly addresses?: readonly string[];
  readonly podCIDRs?: readonly string[];
  readonly steps: readonly Step[];
  /** When the kernel of each other node had, or had lost, the way to it: since its own end stood, or its Node object was removed. */
  readonly peers: readonly { readonly node: string; readonly ms: number }[];
}

type Answer =
  | ({ readonly type: 'step' } & Step)
  | { readonly type: 'done'; readonly result: AnyResult }
  | { readonly type: 'failed'; readonly error: { readonly code: string; readonly message: string; readonly object?: string; readonly hint?: string } };

export type ControlHandler = (request: ControlRequest, tell: (s: Step) => void) => Promise<AnyResult>;

export async function serveControl(path: string, handle: ControlHandler): Promise<{ close(): Promise<void> }> {
  let last: Promise<void> = Promise.resolve();
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy()); // whoever asked has gone; the work goes on
    const say = (a: Answer): void => void (socket.writable && socket.write(`${JSON.stringify(a)}\n`));
    createInterface({ input: socket }).once('line', (line) => {
      last = last.then(async () => {
        try {
          say({ type: 'done', result: await handle(JSON.parse(line) as ControlRequest, (s) => say({ type: 'step', ...s })) });
        } catch (e) {
          say({ type: 'failed', error: e instanceof PodwayError ? (e.toJSON() as { code: string; message: string }) : { code: 'INTERNAL', message: messageOf(e) } });
        }
        socket.end();
      });
    });
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  chmodSync(path, 0o600);
  return {
    close: () => new Promise((resolve) => {
      for (const s of open) s.destroy();
      server.close(() => resolve());
    }),
  };
}

/** Asks the process of a lab. @throws its error, or LAB_UNREACHABLE */
export function askLab<R extends ControlRequest>(layout: LabLayout, request: R, tell: (s: Step) => void, signal: AbortSignal): Promise<ControlResults[R['verb']]> {
  return new Promise((resolve, reject) => {
    const gone = (cause?: Error): PodwayError => new PodwayError('LAB_UNREACHABLE', `the process of lab ${layout.name} does not answer`, {
      object: layout.control, ...(cause === undefined ? {} : { said: cause.message, cause }), hint: `Its log: ${layout.logs}/lab.log`,
    });
    const socket = createConnection(layout.control);
    const stop = (): void => (socket.destroy(), reject(signal.reason as Error));
    signal.addEventListener('abort', stop, { once: true });
    socket.once('error', (e) => reject(gone(e)));
    socket.once('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    createInterface({ input: socket })
      .on('line', (line) => {
        const a = JSON.parse(line) as Answer;
        if (a.type === 'step') tell({ name: a.name, at: a.at });
        else if (a.type === 'done') resolve(a.result as ControlResults[R['verb']]);
        else reject(new PodwayError(a.error.code, a.error.message, { ...(a.error.object === undefined ? {} : { object: a.error.object }), ...(a.error.hint === undefined ? {} : { hint: a.error.hint }) }));
      })
      .once('close', () => (signal.removeEventListener('abort', stop), reject(gone())));
  });
}
