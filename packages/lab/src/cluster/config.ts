/**
 * The lab file: what a lab is made of. YAML, checked against a schema; every mistake is reported at
 * once, with line and column. Pure.
 */
import { isNode, LineCounter, parseDocument, type Document } from 'yaml';
import { cidrContains, cidrNth, cidrOverlaps, formatCidr, formatIp, parseCidr, parseIp, tryParseIp, tryParseIpCidr } from '@podway/cni';
import { PodwayError } from '@podway/errors';
import { z } from 'zod';
import { BACKEND_TYPES, WIRINGS, type BackendType, type WiringType } from '@podway/agent';
import { checkLabName, LabLayout, DEFAULT_LAB, LAB_NAME } from './layout.js';

const cidr = z.string().refine((s) => tryParseIpCidr(s) !== undefined, 'must be a range in CIDR notation, such as 10.244.0.0/16');
const ip = z.string().refine((s) => tryParseIp(s) !== undefined, 'must be an IP address');
const dnsLabel = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be a name of lower-case letters, digits and dashes');

const API_VERSION = 'podway.io/v1alpha1';

const nodeSchema = z.strictObject({
  name: dnsLabel,
  address: ip.optional(),
  podCIDR: cidr.optional(),
  labels: z.record(z.string(), z.string()).optional(),
});

const podSchema = z.strictObject({
  name: dnsLabel,
  namespace: dnsLabel.optional(),
  node: dnsLabel.optional(),
  image: z.string().default('podway/web'),
  /** A fixed address, through the annotation podway.io/ip-addrs. */
  address: ip.optional(),
  labels: z.record(z.string(), z.string()).optional(),
  command: z.array(z.string()).optional(),
});

const schema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Lab'),
  name: z.string().refine((s) => LAB_NAME.test(s), 'must be at most 32 lower-case letters, digits and dashes').default(DEFAULT_LAB),
  underlay: z.strictObject({
    subnet: cidr.default('172.18.0.0/16'),
    mtu: z.number().int().min(576).max(65535).default(1500),
  }).prefault({}),
  network: z.strictObject({
    clusterCIDR: cidr.default('10.244.0.0/16'),
    nodeMask: z.number().int().min(8).max(30).default(24),
    backend: z.strictObject({
      type: z.enum(BACKEND_TYPES).default('vxlan'),
      vni: z.number().int().min(1).max(0xffffff).default(1),
      port: z.number().int().min(1).max(65535).default(8472),
      /** Encapsulate only between subnets. */
      crossSubnet: z.boolean().default(false),
    }).prefault({}),
    /** How a pod is connected to its node. */
    wiring: z.enum(WIRINGS).default('bridge'),
    /** With ptp: the pods' next hop is an address of the range on the node, or 169.254.1.1. */
    gateway: z.enum(['host', 'link-local']).default('host'),
    /** Ranges of pods: one a node (spec.podCIDR), or blocks of IPPool objects, as many as the pods need. */
    ipam: z.enum(['podCIDR', 'pools']).default('podCIDR'),
    blockSize: z.number().int().min(20).max(30).default(26),
    mtu: z.number().int().min(576).max(65535).optional(),
    masquerade: z.boolean().default(true),
  }).prefault({}),
  nodes: z.array(nodeSchema).min(1).max(200).prefault([{ name: 'm1' }, { name: 'm2' }, { name: 'm3' }]),
  pods: z.array(podSchema).default([]),
  /** Names of images of manifests, and the built-in image or folder of this machine that stands for each. */
  images: z.record(z.string(), z.string()).default({}),
});

export type LabFile = z.input<typeof schema>;
export type LabPod = z.output<typeof podSchema>;

export interface LabNode {
  readonly name: string;
  readonly address: string;
  readonly podCIDR: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
}

/** A lab file with everything filled in. */
export interface LabConfig {
  readonly name: string;
  readonly underlay: { readonly subnet: string; readonly prefix: number; readonly gateway: string; readonly mtu: number };
  readonly network: {
    readonly clusterCIDR: string;
    readonly nodeMask: number;
    readonly backend: { readonly type: BackendType; readonly vni: number; readonly port: number; readonly crossSubnet: boolean };
    readonly wiring: WiringType;
    readonly gateway: 'host' | 'link-local';
    readonly ipam: 'podCIDR' | 'pools';
    /** Of the first pool. */
    readonly blockSize: number;
    readonly mtu: number | undefined;
    readonly masquerade: boolean;
  };
  readonly nodes: readonly LabNode[];
  readonly pods: readonly LabPod[];
  readonly images: Readonly<Record<string, string>>;
}

export interface Mistake {
  readonly line: number;
  readonly column: number;
  /** `nodes[1].address` */
  readonly path: string;
  readonly message: string;
}

const SAMPLE_PODS: readonly LabPod[] = [['web-a', 'm1'], ['web-b', 'm1'], ['web-c', 'm2'], ['web-d', 'm3']].map(([name, node]) => ({
  name: name!, node: node!, image: 'podway/web', labels: { app: 'web' },
}));

/** The default lab: three nodes, four sample pods. */
export function defaultLab(name: string = DEFAULT_LAB, nodes = 3): LabConfig {
  checkLabName(name);
  const names = Array.from({ length: nodes }, (_, i) => `m${i + 1}`);
  return complete(schema.parse({
    apiVersion: API_VERSION, kind: 'Lab', name,
    nodes: names.map((n) => ({ name: n })),
    pods: SAMPLE_PODS.filter((p) => names.includes(p.node ?? '')),
  }), () => undefined);
}

/** @throws LAB_FILE_INVALID listing every mistake with line and column. */
export function parseLabFile(text: string, file: string): LabConfig {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const mistakes: Mistake[] = document.errors.map((e) => ({ ...place(lines, e.pos[0]), path: '', message: e.message }));
  let config: LabConfig | undefined;
  if (mistakes.length === 0) {
    const report = (path: readonly PropertyKey[], message: string) => {
      mistakes.push({ ...positionOf(document, lines, path), path: words(path), message });
    };
    const read = schema.safeParse(document.toJS() ?? {});
    if (read.success) config = complete(read.data, report);
    else for (const issue of read.error.issues) report(issue.path, issue.message);
  }
  if (mistakes.length || !config) {
    throw new PodwayError('LAB_FILE_INVALID', `${file} cannot be used`, {
      object: file,
      said: mistakes.map((m) => `\n  ${file}:${m.line}:${m.column}: ${m.path ? `${m.path}: ` : ''}${m.message}`).join(''),
      hint: 'A minimal one: {apiVersion: podway.io/v1alpha1, kind: Lab, nodes: [{name: m1}, {name: m2}]}',
    });
  }
  return config;
}

const words = (path: readonly PropertyKey[]): string =>
  path.map((p) => (typeof p === 'number' ? `[${p}]` : `.${String(p)}`)).join('').replace(/^\./, '');

const place = (lines: LineCounter, offset: number): { line: number; column: number } => {
  const { line, col } = lines.linePos(offset);
  return { line, column: col };
};

/** Where a path stands in the text; where it is missing, the nearest thing around it that is there. */
function positionOf(document: Document, lines: LineCounter, path: readonly PropertyKey[]): { line: number; column: number } {
  for (let n = path.length; n >= 0; n--) {
    const node: unknown = n === 0 ? document.contents : document.getIn(path.slice(0, n), true);
    if (isNode(node) && node.range) return place(lines, node.range[0]);
  }
  return { line: 1, column: 1 };
}

/** Fills in addresses and checks what a schema cannot say. */
function complete(file: z.output<typeof schema>, report: (path: readonly PropertyKey[], message: string) => void): LabConfig {
  const subnet = parseCidr(file.underlay.subnet);
  const cluster = parseCidr(file.network.clusterCIDR);
  if (cluster.family === subnet.family && cidrOverlaps(cluster, subnet)) {
    report(['network', 'clusterCIDR'], `overlaps with the underlay's subnet ${formatCidr(subnet)}`);
  }
  if (file.network.gateway === 'link-local' && file.network.wiring !== 'ptp') report(['network', 'gateway'], 'link-local goes with wiring ptp');
  if (file.network.ipam === 'pools') {
    if (file.network.blockSize < cluster.prefix) report(['network', 'blockSize'], `must not be shorter than the cluster's /${cluster.prefix}`);
    file.nodes.forEach((n, i) => n.podCIDR !== undefined && report(['nodes', i, 'podCIDR'], 'has no meaning with ipam pools: nodes claim blocks'));
  }
  if (file.network.nodeMask < cluster.prefix) report(['network', 'nodeMask'], `must not be shorter than the cluster's /${cluster.prefix}`);
  const gateway = formatIp(cidrNth(subnet, 1));
  const taken = new Map<string, string>([[gateway, "the underlay's router"]]);
  const names = new Set<string>();
  for (const [i, n] of file.nodes.entries()) {
    if (names.has(n.name)) report(['nodes', i, 'name'], `"${n.name}" is there twice`);
    if ((LabLayout.reserved as readonly string[]).includes(n.name)) report(['nodes', i, 'name'], `"${n.name}" is the name of a part of every lab`);
    names.add(n.name);
    if (n.podCIDR !== undefined) {
      const own = parseCidr(n.podCIDR);
      if (own.family !== cluster.family || !cidrContains(cluster, { family: own.family, value: own.base }) || own.prefix < cluster.prefix) {
        report(['nodes', i, 'podCIDR'], `is not within the cluster's range ${formatCidr(cluster)}`);
      }
      const clash = file.nodes.findIndex((o, j) => j < i && o.podCIDR !== undefined && cidrOverlaps(parseCidr(o.podCIDR), own));
      if (clash >= 0) report(['nodes', i, 'podCIDR'], `overlaps with that of node ${file.nodes[clash]!.name}`);
    }
    if (n.address === undefined) continue;
    const holder = taken.get(n.address);
    if (holder) report(['nodes', i, 'address'], `is already that of ${holder}`);
    const value = parseIp(n.address).value;
    if (subnet.family === 4 && (value === subnet.base || value === subnet.base + (1n << BigInt(32 - subnet.prefix)) - 1n)) {
      report(['nodes', i, 'address'], `is the underlay's own: the first and the last address of ${formatCidr(subnet)} are no node's`);
    }
    if (!cidrContains(subnet, parseIp(n.address))) report(['nodes', i, 'address'], `is not in the underlay's subnet ${formatCidr(subnet)}`);
    taken.set(n.address, `node ${n.name}`);
  }
  let next = 2;
  const usable = (1n << BigInt((subnet.family === 4 ? 32 : 128) - subnet.prefix)) - 1n;
  const nodes = file.nodes.map((n, i): LabNode => {
    let address = n.address;
    while (address === undefined && BigInt(next) < usable) {
      const candidate = formatIp(cidrNth(subnet, next++));
      if (!taken.has(candidate)) address = candidate;
    }
    if (address === undefined) {
      report(['nodes', i], `the underlay ${formatCidr(subnet)} has no address left for it`);
      address = '';
    }
    return { name: n.name, address, podCIDR: n.podCIDR, labels: n.labels ?? {} };
  });
  const pods = new Set<string>();
  for (const [i, p] of file.pods.entries()) {
    const key = `${p.namespace ?? 'default'}/${p.name}`;
    if (pods.has(key)) report(['pods', i, 'name'], `"${p.name}" is there twice`);
    pods.add(key);
    if (p.node !== undefined && !names.has(p.node)) report(['pods', i, 'node'], `there is no node ${p.node}; nodes: ${[...names].join(', ')}`);
    const range = file.nodes.find((n) => n.name === p.node)?.podCIDR ?? file.network.clusterCIDR;
    if (p.address !== undefined && !cidrContains(parseCidr(range), parseIp(p.address))) {
      report(['pods', i, 'address'], range === file.network.clusterCIDR ? `is not in the cluster's range ${range}` : `is not in node ${p.node}'s range ${range}`);
    }
  }
  return {
    name: file.name,
    underlay: { subnet: formatCidr(subnet), prefix: subnet.prefix, gateway, mtu: file.underlay.mtu },
    network: { ...file.network, clusterCIDR: formatCidr(cluster), mtu: file.network.mtu },
    nodes, pods: file.pods, images: file.images,
  };
}

/** A lab with one node more. @throws NODE_INVALID with everything that is wrong */
export function withNode(c: LabConfig, node: { readonly name: string; readonly address?: string; readonly podCIDR?: string; readonly labels?: Readonly<Record<string, string>> }): LabConfig {
  const mistakes: string[] = [];
  const read = nodeSchema.safeParse(node);
  let config: LabConfig | undefined;
  if (read.success) {
    const nodes = [...c.nodes.map(({ podCIDR, ...n }) => ({ ...n, labels: { ...n.labels }, ...(podCIDR === undefined ? {} : { podCIDR }) })), read.data];
    config = complete(
      { apiVersion: API_VERSION, kind: 'Lab', ...c, network: { ...c.network }, nodes, pods: [...c.pods], images: { ...c.images } },
      (path, message) => mistakes.push(`${path.slice(2).join('.')}: ${message}`),
    );
  } else for (const issue of read.error.issues) mistakes.push(`${issue.path.join('.')}: ${issue.message}`);
  if (config && mistakes.length === 0) return config;
  throw new PodwayError('NODE_INVALID', `node ${node.name} cannot be added`, { object: `lab ${c.name}`, said: mistakes.join('; ') });
}

/** A lab whose pods are wired as asked. @throws LAB_FILE_INVALID when the two do not go together */
export function withWiring(
  c: LabConfig,
  asked: { readonly wiring: WiringType | undefined; readonly gateway: LabConfig['network']['gateway'] | undefined; readonly ipam?: LabConfig['network']['ipam'] | undefined },
): LabConfig {
  const wiring = asked.wiring ?? c.network.wiring;
  // A form of ptp is no wish of one who asks for a bridge instead.
  const gateway = asked.gateway ?? (wiring === 'bridge' ? 'host' : c.network.gateway);
  if (gateway === 'host' || wiring === 'ptp') return { ...c, network: { ...c.network, wiring, gateway, ipam: asked.ipam ?? c.network.ipam } };
  throw new PodwayError('LAB_FILE_INVALID', `a ${gateway} gateway does not go with wiring ${wiring}, which has its gateway on the bridge`, { hint: 'Add --wiring ptp.' });
}

/** The network as the agents read it: a net-conf.json. */
export function netConf(c: LabConfig): string {
  return `${JSON.stringify({
    Network: c.network.clusterCIDR, Wiring: c.network.wiring, Gateway: c.network.gateway, IPAM: c.network.ipam, Masquerade: c.network.masquerade, ...(c.network.mtu === undefined ? {} : { MTU: c.network.mtu }),
    Backend: { Type: c.network.backend.type, VNI: c.network.backend.vni, Port: c.network.backend.port, CrossSubnet: c.network.backend.crossSubnet },
  })}\n`;
}
