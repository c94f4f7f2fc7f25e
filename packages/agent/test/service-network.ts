/** Nodes, pods that serve and ask, and Services on top of them, for tests. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Netns } from '@podway/kernel';
import { EndpointSlices, SERVICE_NAME_LABEL, Services, type EndpointSlice, type Service } from '@podway/kube';
import type { Answers } from './service-traffic.js';
import { until, type TestNetwork, type TestNode } from './network.js';

const PROGRAM = fileURLToPath(new URL('./service-traffic.js', import.meta.url));

export interface Asker {
  ask(proto: 'tcp' | 'udp', host: string, port: number, count?: number, same?: 'same'): Promise<Answers>;
}

export async function asker(net: TestNetwork, ns: Netns): Promise<Asker> {
  const child = net.spawn(ns, [process.execPath, PROGRAM, 'ask']);
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  await lines.next();
  return {
    async ask(proto, host, port, count = 1, same) {
      child.stdin!.write(`${proto} ${host} ${port} ${count}${same === undefined ? '' : ' same'}\n`);
      const { value } = (await lines.next()) as { value: string };
      return JSON.parse(value) as Answers;
    },
  };
}

export async function serves(net: TestNetwork, ns: Netns, name: string, ...ports: number[]): Promise<{ stop(): Promise<void> }> {
  const child = net.spawn(ns, [process.execPath, PROGRAM, 'serve', name, ...ports.map(String)]);
  const lines = createInterface({ input: child.stdout! });
  await once(lines, 'line');
  return {
    async stop() {
      const gone = once(child, 'close');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

export interface EndpointWish {
  readonly address: string;
  readonly node?: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
}

type Spec = NonNullable<Service['spec']>;

export const serviceObject = (name: string, spec: Partial<Spec>, status: Service['status'] = {}): Service => ({
  apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default', creationTimestamp: '2026-01-01T00:00:00Z' },
  spec: { type: 'ClusterIP', ...spec, ...(spec.clusterIP === undefined ? {} : { clusterIPs: [spec.clusterIP] }) } as Spec, status,
});

export const sliceObject = (service: string, endpoints: readonly EndpointWish[], ports: readonly { port: number; name?: string; protocol?: string }[]): EndpointSlice => ({
  apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { name: `${service}-1`, namespace: 'default', labels: { [SERVICE_NAME_LABEL]: service } },
  addressType: endpoints[0]?.address.includes(':') ? 'IPv6' : 'IPv4', ports: ports.map((p) => ({ name: '', protocol: 'TCP', ...p })),
  endpoints: endpoints.map((e) => ({
    addresses: [e.address], conditions: { ready: e.ready ?? true, serving: e.serving ?? e.ready ?? true, terminating: e.terminating ?? false }, ...(e.node === undefined ? {} : { nodeName: e.node }),
  })),
});

/** Puts both into the API and waits until every node has taken them over. */
export async function put(net: TestNetwork, service: Service, slice?: EndpointSlice): Promise<void> {
  const before = net.nodes.map((n) => n.seen('services').length);
  net.client.put(Services, service);
  if (slice) net.client.put(EndpointSlices, slice);
  await told(net.nodes, before);
}

export async function change(net: TestNetwork, slice: EndpointSlice, nodes: readonly TestNode[] = net.nodes): Promise<void> {
  const before = nodes.map((n) => n.seen('services').length);
  net.client.put(EndpointSlices, slice);
  await told(nodes, before);
}

const told = async (nodes: readonly TestNode[], before: readonly number[]): Promise<void> => {
  for (const [i, n] of nodes.entries()) if (n.agent) await until(`${n.name} has the change (${JSON.stringify(n.seen('failed'))})`, () => n.seen('services').length > before[i]!);
};
