/**
 * Nodes that join and leave a running lab. What a step claims is looked up in the kernel, not taken from the
 * one who does it: the bridge and the tunnel on the new node, and on every other node the route, the
 * permanent neighbour and the FDB entry.
 */
import { rmSync } from 'node:fs';
import { nodesWithRanges } from '@podway/agent';
import { isPodwayError, PodwayError } from '@podway/errors';
import { Netns, RtNetlink, type RouteInfo } from '@podway/kernel';
import { Nodes, podCidrsOf, Pods, type Node, type ObjectClient, type Pod } from '@podway/kube';
import { nodeAddresses, withNode, type LabConfig, type LabNode } from './config.js';
import type { MembershipResult, NewNode, Step } from './control.js';
import type { LabLayout } from './layout.js';
import type { NodeHost } from './node-host.js';

export interface MembershipContext {
  readonly layout: LabLayout;
  readonly client: ObjectClient;
  readonly hosts: NodeHost[];
  readonly config: () => LabConfig;
  /** Puts the lab's new shape on disk. */
  readonly remember: (config: LabConfig) => void;
  /** The routers of racks speak with the nodes of this shape only. */
  readonly route: (config: LabConfig) => Promise<void>;
  /** Machine, Node object, agent and kubelet. */
  readonly build: (node: LabNode) => Promise<NodeHost>;
}

const TIMEOUT_MS = 30_000;
const POLL_MS = 10;

export const isReady = (o: Node | Pod): boolean =>
  (o.status?.conditions as readonly { type: string; status: string }[] | undefined)?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;

/** @throws NODE_INVALID, NODE_NOT_READY; nothing of the node is left then. */
export async function addNode(c: MembershipContext, wish: NewNode, tell: (s: Step) => void): Promise<MembershipResult> {
  const before = c.config();
  if (before.nodes.some((n) => n.name === wish.name)) {
    throw new PodwayError('NODE_EXISTS', `lab ${before.name} already has a node ${wish.name}`, {
      object: `node ${wish.name}`, hint: `Choose another name. Nodes: ${before.nodes.map((n) => n.name).join(', ')}`,
    });
  }
  const config = withNode(before, wish);
  const node = config.nodes.at(-1)!;
  const clock = stopwatch(tell);
  c.remember(config);
  try {
    const host = await c.build(node);
    c.remember(config);
    clock.step(`machine ${node.name}, cable at ${node.address}, Node object`);
    const podCIDR = await until(`node ${node.name} to have a range of addresses`, async () => firstRange(await nodesWithRanges(c.client), node.name));
    clock.step(config.network.ipam === 'pools' ? `block ${podCIDR} claimed` : `podCIDR ${podCIDR} registered`);
    const peers = c.hosts.filter((h) => h !== host);
    let published = 0;
    const known: { node: string; ms: number }[] = [];
    const look = within(c.layout, node.name);
    try {
      if (config.network.wiring === 'bridge') {
        const bridge = await until('the bridge', () => look((nl) => nl.links().find((l) => l.kind === 'bridge')?.name));
        clock.step(`bridge ${bridge}`);
      }
      const ranges = await rangesOf(c.client, peers);
      const routed = (nl: RtNetlink): boolean => {
        const there = new Set(nl.routes().map((r) => r.dst));
        return ranges.every((r) => there.has(r));
      };
      // Not every backend has a device of its own: without one the routes come alone.
      const tunnel = await until('a tunnel or routes', () => look((nl) => nl.links().find((l) => l.kind === 'vxlan')?.name ?? (routed(nl) ? '-' : undefined)));
      if (tunnel !== '-') clock.step(`tunnel ${tunnel}`);
      published = performance.now();
      await until('routes to all peers', () => look(routed));
      clock.step(`routes to ${ranges.length} peers`);
    } finally {
      look.close();
    }
    await Promise.all(peers.map(async (p) => {
      const lookAt = within(c.layout, p.node.name);
      try {
        await until(`node ${p.node.name} to know ${node.name}`, () => lookAt((nl) => knows(nl, podCIDR, node.address)));
        known.push({ node: p.node.name, ms: performance.now() - published });
      } finally {
        lookAt.close();
      }
    }));
    clock.step(`route, neighbour and FDB entry on ${peers.length} peers`);
    await until(`node ${node.name} to be Ready`, async () => isReady(await c.client.get(Nodes, node.name)));
    clock.step('Ready');
    const podCIDRs = (await nodesWithRanges(c.client)).filter((n) => n.metadata?.name === node.name).flatMap(podCidrsOf);
    return { node: node.name, address: node.address, podCIDR, addresses: nodeAddresses(node), podCIDRs, steps: clock.steps, peers: sorted(known) };
  } catch (e) {
    await demolish(c, node.name);
    c.remember(before);
    throw e;
  }
}

/** Its pods first (deleted, as a drain does), then the Node object, then the machine. @throws NODE_NOT_FOUND, NODE_LAST */
export async function removeNode(
  c: MembershipContext, { name, graceSeconds }: { readonly name: string; readonly graceSeconds: number | undefined }, tell: (s: Step) => void,
): Promise<MembershipResult> {
  const config = c.config();
  const node = config.nodes.find((n) => n.name === name);
  const lab = `lab ${config.name}`;
  if (!node) throw new PodwayError('NODE_NOT_FOUND', `${lab} has no node ${name}`, { object: lab, hint: `Nodes: ${config.nodes.map((n) => n.name).join(', ')}` });
  if (config.nodes.length === 1) throw new PodwayError('NODE_LAST', `${name} is the only node of ${lab}`, { object: lab, hint: 'To take the lab away: podway down' });
  const clock = stopwatch(tell);
  const podCIDR = firstRange(await nodesWithRanges(c.client), name) ?? '';
  const on = async (): Promise<readonly Pod[]> => (await c.client.list(Pods)).filter((p) => p.spec?.nodeName === name);
  // Nothing new comes to it while its pods leave.
  await c.client.patch(Nodes, { name }, { spec: { unschedulable: true } }, { type: 'merge' });
  const pods = await on();
  for (const p of pods) await gone(c.client.delete(Pods, { name: p.metadata?.name ?? '', namespace: p.metadata?.namespace ?? '' }, graceSeconds === undefined ? {} : { gracePeriodSeconds: graceSeconds }));
  await until(`the pods of node ${name} to end`, async () => (await on()).length === 0, graceSeconds === undefined ? 2 * TIMEOUT_MS : TIMEOUT_MS);
  clock.step(`${pods.length} pods deleted`);
  const removed = performance.now();
  await gone(c.client.delete(Nodes, { name }));
  clock.step('Node object deleted');
  const smaller = { ...config, nodes: config.nodes.filter((n) => n !== node), pods: config.pods.filter((p) => p.node !== name) };
  // What its own speaker still announces, its router hands on to nobody.
  await c.route(smaller);
  const peers = c.hosts.filter((h) => h.node.name !== name);
  const forgotten: { node: string; ms: number }[] = [];
  await Promise.all(peers.map(async (p) => {
    const look = within(c.layout, p.node.name);
    try {
      await until(`node ${p.node.name} to forget ${name}`, () => look((nl) => !remembers(nl, podCIDR, node.address)));
      forgotten.push({ node: p.node.name, ms: performance.now() - removed });
    } finally {
      look.close();
    }
  }));
  clock.step(`route, neighbour and FDB entry gone from ${peers.length} peers`);
  await demolish(c, name);
  c.remember(smaller);
  clock.step('machine and cable gone');
  return { node: name, address: node.address, podCIDR, steps: clock.steps, peers: sorted(forgotten) };
}

/** Takes away what there is of a node; absent is success. */
async function demolish(c: MembershipContext, name: string): Promise<void> {
  const at = c.hosts.findIndex((h) => h.node.name === name);
  if (at >= 0) await c.hosts.splice(at, 1)[0]!.demolish();
  await gone(c.client.delete(Nodes, { name }));
  Netns.remove(c.layout.netns(name));
  rmSync(c.layout.node(name).root, { recursive: true, force: true, maxRetries: 5 });
}

const gone = (deletion: Promise<unknown>): Promise<void> => deletion.then(() => undefined, (e: unknown) => {
  if (!isPodwayError(e, 'KUBE_NOT_FOUND')) throw e;
});

const firstRange = (nodes: readonly Node[], name: string): string | undefined => nodes.find((n) => n.metadata?.name === name)?.spec?.podCIDR;

async function rangesOf(client: ObjectClient, hosts: readonly NodeHost[]): Promise<string[]> {
  const names = new Set(hosts.map((h) => h.node.name));
  return (await nodesWithRanges(client)).filter((n) => names.has(n.metadata?.name ?? '')).flatMap(podCidrsOf);
}

const wayTo = (nl: RtNetlink, podCIDR: string): RouteInfo | undefined => nl.routes().find((r) => r.dst === podCIDR && r.gateway !== undefined);

function knows(nl: RtNetlink, podCIDR: string, address: string): boolean {
  const route = wayTo(nl, podCIDR);
  if (!route) return false;
  if (nl.links().find((l) => l.index === route.index)?.kind !== 'vxlan') return true;
  const neighbour = nl.neighs().find((n) => n.index === route.index && n.dst === route.gateway);
  return neighbour !== undefined && nl.fdb().some((f) => f.index === route.index && f.dst === address && f.lladdr === neighbour.lladdr);
}

function remembers(nl: RtNetlink, podCIDR: string, address: string): boolean {
  const gateway = podCIDR.split('/')[0];
  return wayTo(nl, podCIDR) !== undefined || nl.neighs().some((n) => n.dst === gateway) || nl.fdb().some((f) => f.dst === address);
}

interface Look {
  <T>(read: (nl: RtNetlink) => T): T;
  close(): void;
}

/** A netlink socket in a node's namespace. */
function within(layout: LabLayout, node: string): Look {
  const ns = Netns.open({ name: layout.netns(node) });
  const nl = RtNetlink.open(ns);
  ns.close();
  return Object.assign(<T>(read: (nl: RtNetlink) => T): T => read(nl), { close: () => nl.close() });
}

/** @throws NODE_NOT_READY naming what was waited for */
async function until<T>(what: string, ask: () => T | undefined | false | Promise<T | undefined | false>, timeoutMs = TIMEOUT_MS): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > end) throw new PodwayError('NODE_NOT_READY', `waited ${timeoutMs / 1000} s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function stopwatch(tell: (s: Step) => void): { readonly steps: Step[]; step(name: string): void } {
  const began = performance.now();
  const steps: Step[] = [];
  return {
    steps,
    step(name) {
      const s = { name, at: performance.now() - began };
      steps.push(s);
      tell(s);
    },
  };
}

const sorted = <T extends { node: string }>(list: T[]): T[] => list.sort((a, b) => a.node.localeCompare(b.node, 'en', { numeric: true }));
