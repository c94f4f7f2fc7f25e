/**
 * kind's cluster configuration as a lab: every key is done, or named in one line with what becomes of it. None is dropped in
 * silence, and one that kind does not know is a mistake here as well. Pure.
 *
 * Source: kind's site/content/docs/user/configuration.md and pkg/apis/config/v1alpha4/types.go; names of nodes as its
 * providers give them (`<cluster>-control-plane`, `-control-plane2`, `-worker`, `-worker2`).
 */
import { z } from 'zod';
import { parseCidr } from '@podway/cni';
import { labFrom, type LabConfig, type LabFile, type LabNode } from './config.js';
import { checkLabName } from './layout.js';
import type { Path, YamlText } from './yaml-text.js';

export const KIND_API = 'kind.x-k8s.io/v1alpha4';
const CLUSTER_NAME = 'kind';
/** kind's, by family: pkg/apis/config/v1alpha4/default.go. */
const DEFAULTS = {
  podSubnet: { ipv4: ['10.244.0.0/16'], ipv6: ['fd00:10:244::/56'], dual: ['10.244.0.0/16', 'fd00:10:244::/56'] },
  serviceSubnet: { ipv4: ['10.96.0.0/16'], ipv6: ['fd00:10:96::/112'], dual: ['10.96.0.0/16', 'fd00:10:96::/112'] },
} as const;
type IpFamily = 'ipv4' | 'ipv6' | 'dual';
const ROLE_LABEL = 'node-role.kubernetes.io/control-plane';

const port = z.number().int().min(-1).max(65535);
const patches = z.array(z.unknown()).optional();

const nodeSchema = z.strictObject({
  role: z.enum(['control-plane', 'worker']).default('control-plane'),
  image: z.string().optional(),
  labels: z.record(z.string(), z.string()).optional(),
  extraMounts: z.array(z.strictObject({
    hostPath: z.string(), containerPath: z.string(), readOnly: z.boolean().optional(), selinuxRelabel: z.boolean().optional(),
    propagation: z.enum(['None', 'HostToContainer', 'Bidirectional']).optional(),
  })).optional(),
  extraPortMappings: z.array(z.strictObject({
    containerPort: z.number().int().min(1).max(65535), hostPort: port.optional(), listenAddress: z.string().optional(),
    protocol: z.enum(['TCP', 'UDP', 'SCTP', 'tcp', 'udp', 'sctp']).optional(),
  })).optional(),
  kubeadmConfigPatches: patches,
  kubeadmConfigPatchesJSON6902: patches,
});

const schema = z.strictObject({
  kind: z.literal('Cluster'),
  apiVersion: z.literal(KIND_API),
  name: z.string().optional(),
  nodes: z.array(nodeSchema).optional(),
  networking: z.strictObject({
    ipFamily: z.enum(['ipv4', 'ipv6', 'dual']).optional(),
    apiServerPort: port.optional(),
    apiServerAddress: z.string().optional(),
    podSubnet: z.string().optional(),
    serviceSubnet: z.string().optional(),
    disableDefaultCNI: z.boolean().optional(),
    kubeProxyMode: z.enum(['iptables', 'ipvs', 'nftables', 'none']).optional(),
    dnsSearch: z.array(z.string()).optional(),
  }).optional(),
  featureGates: z.record(z.string(), z.boolean()).optional(),
  runtimeConfig: z.record(z.string(), z.string()).optional(),
  kubeadmConfigPatches: patches,
  kubeadmConfigPatchesJSON6902: patches,
  containerdConfigPatches: patches,
  containerdConfigPatchesJSON6902: patches,
});
type KindFile = z.output<typeof schema>;
type KindNode = z.output<typeof nodeSchema>;

export interface KindLab {
  readonly config: LabConfig;
  /** What a key of the file became, where it is not what kind would do. */
  readonly notes: readonly string[];
}

export const isKindFile = (value: unknown): boolean => {
  const { kind, apiVersion } = (typeof value === 'object' && value !== null ? value : {}) as { kind?: unknown; apiVersion?: unknown };
  return kind === 'Cluster' || (typeof apiVersion === 'string' && apiVersion.startsWith('kind.x-k8s.io/'));
};

/** @throws LAB_FILE_INVALID, LAB_BAD_NAME */
export function kindLab(yaml: YamlText, name?: string): KindLab {
  const file = yaml.read(schema);
  const hint = 'Every key of kind: https://kind.sigs.k8s.io/docs/user/configuration/. A minimal file: {kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4}';
  yaml.settle(hint);
  const f = file!;
  const cluster = checkLabName(name ?? f.name ?? CLUSTER_NAME);
  const nodes = f.nodes?.length ? f.nodes : [nodeSchema.parse({})];
  if (!nodes.some((n) => n.role === 'control-plane')) yaml.report(['nodes'], 'at least one node must have the role control-plane');
  const net = f.networking ?? {};
  const ipFamily = net.ipFamily ?? 'ipv4';
  const pods = ranges(yaml, ['networking', 'podSubnet'], net.podSubnet, ipFamily, DEFAULTS.podSubnet[ipFamily]);
  const services = ranges(yaml, ['networking', 'serviceSubnet'], net.serviceSubnet, ipFamily, DEFAULTS.serviceSubnet[ipFamily]);
  const v4 = pods.find((p) => !p.includes(':'));
  nodes.forEach((n, i) => n.extraPortMappings?.forEach((p, j) => checkPort(yaml, ['nodes', i, 'extraPortMappings', j], p, nodes)));
  yaml.settle(hint);
  const names = nameNodes(cluster, nodes);
  const lab: LabFile = {
    apiVersion: 'podway.io/v1alpha1', kind: 'Lab', name: cluster,
    network: {
      ipFamily, clusterCIDR: pods, serviceCIDR: services.join(), ...(v4 === undefined ? {} : { nodeMask: Math.min(30, Math.max(24, parseCidr(v4).prefix)) }),
      ...(net.kubeProxyMode === 'none' ? { proxy: 'none' as const } : {}), ...(net.disableDefaultCNI ? { cni: 'none' } : {}),
    },
    ...(net.apiServerPort !== undefined && net.apiServerPort > 0 ? { api: { port: net.apiServerPort } } : {}),
    nodes: nodes.map((n, i) => ({
      name: names[i]!,
      labels: { ...(n.role === 'control-plane' ? { [ROLE_LABEL]: '', 'node.kubernetes.io/exclude-from-external-load-balancers': '' } : {}), ...n.labels },
      // As kubeadm does, unless there is nobody else to run pods.
      ...(n.role === 'control-plane' && nodes.length > 1 ? { taints: [{ key: ROLE_LABEL, effect: 'NoSchedule' as const }] } : {}),
    })),
  };
  const made = labFrom(lab, yaml, (path) => (path[0] === 'network' ? ['networking', path[1] === 'serviceCIDR' ? 'serviceSubnet' : 'podSubnet'] : path));
  yaml.settle(hint);
  return { config: { ...made, nodes: made.nodes.map((n, i) => withPorts(n, nodes[i]!)) }, notes: notesOf(f, nodes, names) };
}

/** One range, or one of each family with a comma between; what is none, or of a family that is not asked for, is a mistake. */
function ranges(yaml: YamlText, path: Path, text: string | undefined, family: IpFamily, preset: readonly string[]): readonly string[] {
  if (text === undefined) return preset;
  const list = text.split(',');
  const wanted = { ipv4: [4], ipv6: [6], dual: [4, 6] }[family];
  try {
    const given = list.map((r) => parseCidr(r).family as number);
    if ([...given].sort().join() === wanted.join()) return list;
    yaml.report(path, `"${text}": with ipFamily ${family} it is ${family === 'dual' ? 'a range of each family, with a comma between' : `one range of ${family === 'ipv4' ? 'IPv4' : 'IPv6'}`}, such as ${preset.join(',')}`);
  } catch {
    yaml.report(path, `"${text}" is no range in CIDR notation, such as ${preset.join(',')}`);
  }
  return preset;
}

function checkPort(yaml: YamlText, path: Path, p: NonNullable<KindNode['extraPortMappings']>[number], nodes: readonly KindNode[]): void {
  if (p.hostPort === undefined || p.hostPort <= 0) return;
  const same = nodes.flatMap((n) => n.extraPortMappings ?? []).filter((o) => o.hostPort === p.hostPort && (o.protocol ?? 'TCP').toUpperCase() === (p.protocol ?? 'TCP').toUpperCase());
  if (same.length > 1) yaml.report([...path, 'hostPort'], `${p.hostPort} is mapped twice`);
}

const isTcp = (p: { protocol?: string | undefined }): boolean => (p.protocol ?? 'TCP').toUpperCase() === 'TCP';

function withPorts(n: LabNode, k: KindNode): LabNode {
  const ports = (k.extraPortMappings ?? []).filter(isTcp).map((p) => ({ hostPort: Math.max(0, p.hostPort ?? 0), containerPort: p.containerPort }));
  return ports.length ? { ...n, ports } : n;
}

function nameNodes(cluster: string, nodes: readonly KindNode[]): string[] {
  const count = { 'control-plane': 0, worker: 0 };
  return nodes.map(({ role }) => {
    const n = ++count[role];
    return `${cluster}-${role}${n === 1 ? '' : n}`;
  });
}

/** One line for each key that is not what kind would do. */
function notesOf(f: KindFile, nodes: readonly KindNode[], names: readonly string[]): string[] {
  const notes: string[] = [];
  const say = (key: string, value: unknown, text: string): void => {
    const empty = value === undefined || (typeof value === 'object' && value !== null && Object.keys(value).length === 0);
    if (!empty) notes.push(`${key}: ${text}`);
  };
  const net = f.networking ?? {};
  const here = new Set(['127.0.0.1', 'localhost']);
  if (net.kubeProxyMode !== 'none') say('networking.kubeProxyMode', net.kubeProxyMode, `there is no kube-proxy: Services are Podway's own, in nftables, whatever ${net.kubeProxyMode ?? ''} says`);
  if (net.apiServerAddress !== undefined && !here.has(net.apiServerAddress)) {
    say('networking.apiServerAddress', net.apiServerAddress, `${net.apiServerAddress} is not used: the API listens on 127.0.0.1, so that nobody else on the network reaches it`);
  }
  say('networking.dnsSearch', net.dnsSearch, 'has no meaning here yet: nodes resolve no names but each other\'s');
  say('featureGates', f.featureGates, `${Object.keys(f.featureGates ?? {}).join(', ')}: no meaning here: the API server is Podway's own`);
  say('runtimeConfig', f.runtimeConfig, 'no meaning here: the API server is Podway\'s own');
  for (const key of ['kubeadmConfigPatches', 'kubeadmConfigPatchesJSON6902'] as const) say(key, f[key], 'no meaning here: no node is made by kubeadm');
  for (const key of ['containerdConfigPatches', 'containerdConfigPatchesJSON6902'] as const) say(key, f[key], 'no meaning here: pods run without containerd');
  nodes.forEach((n, i) => {
    const at = `nodes[${i}] (${names[i]})`;
    say(`${at}.image`, n.image, `${n.image ?? ''} has no meaning here: a node is made of this machine's own files, and speaks Kubernetes 1.32`);
    for (const m of n.extraMounts ?? []) say(`${at}.extraMounts`, m, `${m.hostPath} → ${m.containerPath} is not mounted: a node sees this machine's files under their own names`);
    for (const p of n.extraPortMappings ?? []) {
      if (!isTcp(p)) say(`${at}.extraPortMappings`, p, `port ${p.containerPort}/${p.protocol ?? ''} is not mapped: only TCP is`);
      else if (!here.has(p.listenAddress ?? '127.0.0.1')) say(`${at}.extraPortMappings`, p, `port ${p.containerPort} is mapped at 127.0.0.1, not at ${p.listenAddress ?? ''}`);
    }
    for (const key of ['kubeadmConfigPatches', 'kubeadmConfigPatchesJSON6902'] as const) say(`${at}.${key}`, n[key], 'no meaning here: no node is made by kubeadm');
  });
  return notes;
}
