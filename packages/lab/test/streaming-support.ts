/** A lab node with the API server, controllers and kubectl: what exec, attach, port-forward and debug need. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import net from 'node:net';
import * as k8s from '@kubernetes/client-node';
import { listenTcp, Netns } from '@podway/kernel';
import { Pods, type Pod } from '@podway/kube';
import { podSubresources } from '../src/cluster/pod-subresources.js';
import { startControllers } from '../src/controllers/index.js';
import { namespaceInode, type PodRecord } from '../src/runtime/index.js';
import { running, type Running } from './apiserver-fixture.js';
import { initBinary, runs, testNode, until, type TestNode } from './runtime-support.js';

export const noKubectl = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).error === undefined ? false : 'kubectl is not installed (Debian: kubernetes-client)';

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Cluster {
  readonly r: Running;
  readonly node: TestNode;
  readonly config: k8s.KubeConfig;
  /** Creates a pod on the node and waits for it. */
  pod(name: string, container: object, spec?: object): Promise<Pod>;
  get(name: string): Promise<Pod>;
  record(name: string): PodRecord;
  /** Command lines of what runs in the pid namespace of a container (the first when not named). */
  processes(name: string, container?: string): string[];
  /** A server on the loopback inside the pod's network namespace. */
  listen(name: string, port: number, serve: (socket: net.Socket) => void): net.Server;
  /** An environment decides which protocol kubectl speaks. */
  kubectl(env: Readonly<Record<string, string>>, args: readonly string[]): ChildProcess;
  close(): Promise<void>;
}

export async function cluster(): Promise<Cluster> {
  const r = await running();
  const node = await testNode({ client: r.api.inProcessClient('kubelet') });
  r.api.attachRuntime(podSubresources(initBinary(), () => node.runtime));
  const controllers = startControllers(r.api, { clusterRanges: [{ cidr: '10.244.0.0/16' }] });
  const client = r.api.inProcessClient('test');
  const config = new k8s.KubeConfig();
  config.loadFromFile(r.kubeconfig);
  const get = (name: string): Promise<Pod> => client.get(Pods, name, 'default');
  const record = (name: string): PodRecord => node.runtime.record('default', name);
  return {
    r, node, config, get, record,
    async pod(name, container, spec = {}) {
      await client.create(Pods, {
        apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default' },
        spec: { nodeName: 'm1', terminationGracePeriodSeconds: 1, ...spec, containers: [{ name: 'c', image: 'busybox', ...container }] },
      } as Pod);
      return until(`pod ${name}`, async () => {
        const p = await get(name);
        return p.status?.phase === 'Running' && p;
      });
    },
    processes(name, container) {
      const { containers } = record(name);
      const of = containers.find((c) => c.name === container) ?? containers[0];
      const inode = of && namespaceInode(of.pid, 'pid');
      return readdirSync('/proc').filter((d) => /^\d+$/.test(d) && namespaceInode(Number(d), 'pid') === inode && runs(Number(d))).map((d) => {
        try {
          return readFileSync(`/proc/${d}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        } catch {
          return '';
        }
      });
    },
    listen(name, port, serve) {
      const ns = Netns.open({ pid: record(name).sandbox.pid });
      const server = net.createServer({ allowHalfOpen: true }, (s) => {
        s.on('error', () => undefined);
        serve(s);
      }).listen({ fd: listenTcp(ns, '127.0.0.1', port) });
      ns.close();
      return server;
    },
    kubectl: (env, args) => spawn('kubectl', args, { env: { PATH: process.env['PATH'], HOME: r.dir, KUBECONFIG: r.kubeconfig, ...env } }),
    async close() {
      for (const c of controllers) c.stop();
      await node.close();
      await r.close();
    },
  };
}

/** What a process said, and how it ended. */
export function result(child: ChildProcess, input?: string | Buffer): Promise<Ran> {
  return new Promise((resolve, reject) => {
    let out = '';
    let err = '';
    child.stdout?.on('data', (d: Buffer) => (out += d.toString()));
    child.stderr?.on('data', (d: Buffer) => (err += d.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out, err }));
    child.stdin?.on('error', () => undefined);
    if (input !== undefined) child.stdin?.end(input);
  });
}
