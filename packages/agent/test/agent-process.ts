/** Starting, watching and killing agent-child. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Nodes } from '@podway/kube';
import type { AgentEvent } from '../src/index.js';
import type { ChildOptions } from './agent-child.js';
import { NETWORK, pathOf, until, type TestNode } from './network.js';

const CHILD = fileURLToPath(new URL('./agent-child.js', import.meta.url));

/** A test that failed leaves its agents running, and the file would never end. */
const children = new Set<ChildProcess>();
after(() => {
  for (const c of children) c.kill('SIGKILL');
});

export class AgentProcess {
  readonly events: AgentEvent[] = [];
  readonly exited: Promise<unknown>;
  private loaded = false;

  private constructor(readonly child: ChildProcess) {
    children.add(child);
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const e = JSON.parse(line) as AgentEvent | { type: 'loaded' };
      if (e.type === 'loaded') this.loaded = true;
      else this.events.push(e);
    });
    child.stdin!.on('error', () => undefined);
    this.exited = once(child, 'close');
  }

  /** A process that has loaded its code and waits for `begin`. */
  static spawn(options: ChildOptions): AgentProcess {
    // One worker thread: what is flushed to disk happens in a fixed order.
    return new AgentProcess(spawn(process.execPath, [CHILD, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, UV_THREADPOOL_SIZE: '1' } }));
  }

  static async of(node: TestNode, more: Partial<ChildOptions> = {}): Promise<AgentProcess> {
    return AgentProcess.spawn({
      node: node.name, netns: pathOf(node.ns), network: NETWORK, socketPath: node.socket, stateDir: node.stateDir, cniConfDir: node.confDir,
      nodes: await node.net.client.list(Nodes), ...more,
    });
  }

  get dead(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  get pid(): number {
    assert.ok(this.child.pid);
    return this.child.pid;
  }

  async begin(ready: AgentEvent['type'] = 'ready'): Promise<this> {
    await until('the agent has loaded its code', () => this.loaded, 30_000);
    this.child.stdin!.write('begin\n');
    await until(`the agent says ${ready} (${JSON.stringify(this.events)})`, () => this.events.some((e) => e.type === ready), 30_000);
    return this;
  }

  seen<T extends AgentEvent['type']>(type: T): Extract<AgentEvent, { type: T }>[] {
    return this.events.filter((e): e is Extract<AgentEvent, { type: T }> => e.type === type);
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}
