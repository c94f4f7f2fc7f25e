/**
 * The lab file: what a lab is made of. YAML, checked against a schema; every mistake is reported at
 * once, with line and column. Pure.
 */
import { cidrContains, cidrLast, cidrNth, cidrOverlaps, cidrSize, formatCidr, formatIp, parseCidr, parseIp, tryParseIpCidr } from '@podway/cni';
import { isPodwayError, PodwayError } from '@podway/errors';
import { z } from 'zod';
import { BACKEND_TYPES, OUTER_DF, parseNetworkConfig, PROXIES, WIRINGS, type BackendType, type ProxyType, type WiringType } from '@podway/agent';
import { byFamily, familyRanges, IP_FAMILIES, secondAddresses, secondFamily, serviceRange, type IpFamily, type SecondFamily, type SecondOfNode } from './families.js';
import { checkLabName, DEFAULT_LAB, LAB_NAME } from './layout.js';
import { completeRacks, rackSchema, tunnelSchema } from './rack-file.js';
import { RACK_LABEL, segmentOf, segments, underlayParts, type LabRack, type LabTunnel, type Segment } from './racks.js';
import { cidr, dnsLabel, ip, mtu } from './terms.js';
import { allKeys, YamlText, type Path } from './yaml-text.js';

/** One, or one of each family. Not a union of the two: its mistakes would be told as "invalid input". */
const oneOrTwo = (one: z.ZodType<string>) => z.custom<string | readonly string[]>().transform((value, context): readonly string[] => {
  const list = Array.isArray(value) ? (value as unknown[]) : [value];
  if (list.length === 0 || list.length > 2) context.addIssue('must be one, or one of IPv4 and one of IPv6');
  for (const [i, item] of list.entries()) {
    const read = one.safeParse(item);
    for (const issue of read.error?.issues ?? []) context.addIssue({ code: 'custom', message: issue.message, path: Array.isArray(value) ? [i] : [], input: item });
  }
  return list as string[];
});

const API_VERSION = 'podway.io/v1alpha1';

const nodeSchema = z.strictObject({
  name: dnsLabel,
  address: oneOrTwo(ip).optional(),
  podCIDR: oneOrTwo(cidr).optional(),
  labels: z.record(z.string(), z.string()).optional(),
  taints: z.array(z.strictObject({ key: z.string(), value: z.string().optional(), effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']) })).optional(),
  /** Where its cable is plugged in; in turn when absent. */
  rack: dnsLabel.optional(),
});

const podSchema = z.strictObject({
  name: dnsLabel,
  namespace: dnsLabel.optional(),
  node: dnsLabel.optional(),
  image: z.string().default('podway/web'),
  /** A fixed address (one a family), through the annotation podway.io/ip-addrs. */
  address: oneOrTwo(ip).optional(),
  labels: z.record(z.string(), z.string()).optional(),
  command: z.array(z.string()).optional(),
});

/** For `type: bgp`; what is left out is the agent's default. */
const bgpSchema = {
  asn: z.number().int().optional(),
  mesh: z.boolean().optional(),
  reflectors: z.array(z.string()).optional(),
  clusterId: z.string().optional(),
  peers: z.array(z.strictObject({
    address: ip, asn: z.number().int(), password: z.string().optional(), nodeSelector: z.string().optional(),
    import: z.union([z.enum(['cluster', 'default', 'all', 'none']), z.array(cidr)]).optional(), multihop: z.number().int().optional(),
  })).optional(),
  password: z.string().optional(),
  holdTime: z.number().int().optional(),
};

const schema = z.strictObject({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Lab'),
  name: z.string().refine((s) => LAB_NAME.test(s), 'must be at most 32 lower-case letters, digits and dashes').default(DEFAULT_LAB),
  underlay: z.strictObject({
    subnet: oneOrTwo(cidr).optional(),
    mtu: mtu.default(1500),
    /** What the switch really passes; larger frames vanish in it without a word. */
    switchMTU: mtu.optional(),
    racks: z.array(rackSchema).min(1).max(50).optional(),
    tunnels: z.array(tunnelSchema).optional(),
  }).prefault({}),
  network: z.strictObject({
    /** Without ranges: those of this family. Default: ipv4, or what the ranges say. */
    ipFamily: z.enum(IP_FAMILIES).optional(),
    clusterCIDR: oneOrTwo(cidr).optional(),
    /** Addresses of Services; two ranges, one of each family, with a comma between. Default: one of each of the lab's families. */
    serviceCIDR: z.string().refine((s) => s.split(',').every((c) => tryParseIpCidr(c.trim()) !== undefined), 'must be a range in CIDR notation, or two with a comma between').optional(),
    /** Who realises Services: the agents, or nobody. */
    proxy: z.enum(PROXIES).default('podway'),
    /** Bits of a node's IPv4 and IPv6 range; 24 and 64. */
    nodeMask: z.number().int().min(8).max(30).optional(),
    nodeMask6: z.number().int().min(16).max(126).optional(),
    backend: z.strictObject({
      type: z.enum(BACKEND_TYPES).default('vxlan'),
      vni: z.number().int().min(1).max(0xffffff).default(1),
      port: z.number().int().min(1).max(65535).default(8472),
      /** Encapsulate only between subnets. */
      crossSubnet: z.boolean().default(false),
      /** Of the outer header of vxlan. */
      df: z.enum(OUTER_DF).optional(),
      ...bgpSchema,
    }).prefault({}),
    /** How a pod is connected to its node. */
    wiring: z.enum(WIRINGS).default('bridge'),
    /** With ptp: the pods' next hop is an address of the range on the node, or 169.254.1.1. */
    gateway: z.enum(['host', 'link-local']).default('host'),
    /** Ranges of pods: one a node (spec.podCIDR), or blocks of IPPool objects, as many as the pods need. */
    ipam: z.enum(['podCIDR', 'pools']).default('podCIDR'),
    blockSize: z.number().int().min(20).max(30).default(26),
    mtu: mtu.optional(),
    masquerade: z.boolean().default(true),
    /** `none`: nodes stay without a network until `podway network install`, or another CNI plugin. */
    cni: z.enum(['podway', 'none']).optional(),
  }).prefault({}),
  /** Where the API listens on this machine: a port of its loopback. */
  api: z.strictObject({ port: z.number().int().min(0).max(65535).default(0) }).optional(),
  nodes: z.array(nodeSchema).min(1).max(200).prefault([{ name: 'm1' }, { name: 'm2' }, { name: 'm3' }]),
  pods: z.array(podSchema).default([]),
  /** Names of images of manifests, and the built-in image or folder of this machine that stands for each. */
  images: z.record(z.string(), z.string()).default({}),
});

export type LabFile = z.input<typeof schema>;
export type LabPod = z.output<typeof podSchema>;
export type BgpFile = { readonly [K in keyof typeof bgpSchema]?: z.output<(typeof bgpSchema)[K]> };
export type LabTaint = NonNullable<z.output<typeof nodeSchema>['taints']>[number];

export interface LabNode {
  readonly name: string;
  readonly address: string;
  readonly podCIDR: string | undefined;
  /** In the second family, of a lab that has one. */
  readonly second?: SecondOfNode;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints?: readonly LabTaint[];
  /** Of a lab with racks. */
  readonly rack?: string;
  /** Ports of this machine's loopback that lead to ports of the node. */
  readonly ports?: readonly NodePortMapping[];
}

export interface NodePortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
}

/** A lab file with everything filled in. */
export interface LabConfig {
  readonly name: string;
  readonly underlay: {
    /** The whole underlay; with racks their subnets are taken from it. */
    readonly subnet: string;
    readonly prefix: number;
    readonly gateway: string;
    readonly mtu: number;
    /** What the switch of a flat underlay passes. */
    readonly switchMTU: number;
    /** None: one flat subnet. */
    readonly racks: readonly LabRack[];
    readonly tunnels: readonly LabTunnel[];
  };
  readonly network: {
    readonly clusterCIDR: string;
    readonly serviceCIDR: string;
    readonly proxy: ProxyType;
    readonly nodeMask: number;
    readonly backend: { readonly type: BackendType; readonly vni: number; readonly port: number; readonly crossSubnet: boolean; readonly df?: (typeof OUTER_DF)[number] | undefined } & BgpFile;
    readonly wiring: WiringType;
    readonly gateway: 'host' | 'link-local';
    readonly ipam: 'podCIDR' | 'pools';
    /** Of the first pool of IPv4. */
    readonly blockSize: number;
    readonly mtu: number | undefined;
    readonly masquerade: boolean;
    readonly cni?: 'podway' | 'none' | undefined;
  };
  readonly api?: { readonly port: number } | undefined;
  /** Absent: one family only. */
  readonly second?: SecondFamily | undefined;
  readonly nodes: readonly LabNode[];
  readonly pods: readonly LabPod[];
  readonly images: Readonly<Record<string, string>>;
}

const SAMPLE_PODS: readonly LabPod[] = [['web-a', 'm1'], ['web-b', 'm1'], ['web-c', 'm2'], ['web-d', 'm3']].map(([name, node]) => ({
  name: name!, node: node!, image: 'podway/web', labels: { app: 'web' },
}));

/** The default lab: three nodes, four sample pods. */
export function defaultLab(name: string = DEFAULT_LAB, nodes = 3, ipFamily: IpFamily = 'ipv4'): LabConfig {
  checkLabName(name);
  const names = Array.from({ length: nodes }, (_, i) => `m${i + 1}`);
  return fill(schema.parse({
    apiVersion: API_VERSION, kind: 'Lab', name, network: { ipFamily },
    nodes: names.map((n) => ({ name: n })),
    pods: SAMPLE_PODS.filter((p) => names.includes(p.node ?? '')),
  }), () => undefined);
}

/** Every key that a lab file can have, `underlay.racks.mtu`. */
export const labFileKeys = (): string[] => allKeys(schema);

/** @throws LAB_FILE_INVALID listing every mistake with line and column. */
export function parseLabFile(text: string, file: string): LabConfig {
  return labOf(new YamlText(text, file));
}

/** @throws LAB_FILE_INVALID */
export function labOf(yaml: YamlText): LabConfig {
  const read = yaml.read(schema);
  const config = read && fill(read, yaml.report);
  yaml.settle('Every key and its default: podway lab-file. A minimal one: {apiVersion: podway.io/v1alpha1, kind: Lab, nodes: [{name: m1}, {name: m2}]}');
  return config!;
}

/** From another kind of file: filled in as a lab file is. @throws LAB_FILE_INVALID */
export function labFrom(file: LabFile, yaml: YamlText, path: (path: Path) => Path): LabConfig {
  return fill(schema.parse(file), (at, message) => yaml.report(path(at), message));
}

type Report = (path: Path, message: string) => void;
type File = z.output<typeof schema>;
/** A file's first family, with all ranges, as labs of one family always had it. */
type FirstFamily = Omit<File, 'underlay' | 'network' | 'nodes' | 'pods'> & {
  readonly underlay: Omit<File['underlay'], 'subnet'> & { readonly subnet: string };
  readonly network: Omit<File['network'], 'clusterCIDR' | 'nodeMask' | 'nodeMask6' | 'ipFamily' | 'serviceCIDR'> & { readonly clusterCIDR: string; readonly serviceCIDR: string; readonly nodeMask: number };
  readonly nodes: readonly FirstOfNode[];
  readonly pods: readonly LabPod[];
};
type FirstOfNode = Omit<File['nodes'][number], 'address' | 'podCIDR'> & { readonly address?: string | undefined; readonly podCIDR?: string | undefined };

/** Takes the families of a file apart, and puts them together again as a lab. */
function fill(file: File, report: Report): LabConfig {
  const { ipFamily, clusterCIDR, serviceCIDR, nodeMask, nodeMask6, ...network } = file.network;
  const [first, other] = familyRanges({ ipFamily, subnet: file.underlay.subnet, clusterCIDR, nodeMask, nodeMask6 }, report);
  if (file.underlay.racks && (other !== undefined || first.subnet.includes(':'))) {
    report(['underlay', 'racks'], 'routers between racks know IPv4 only: leave the racks out, or network.ipFamily at ipv4');
  }
  const second = other && secondFamily(other, report);
  const nodes = file.nodes.map((n, i) => {
    const [own, podCIDR] = [byFamily(n.address, first.subnet), byFamily(n.podCIDR, first.clusterCIDR)];
    for (const [key, v] of [['address', own], ['podCIDR', podCIDR]] as const) {
      if (v.second !== undefined && !second) report(['nodes', i, key], `${v.second} is of a family that this lab has not (network.ipFamily: dual)`);
    }
    if (second && (podCIDR.first === undefined) !== (podCIDR.second === undefined)) report(['nodes', i, 'podCIDR'], 'give one range of each family, or none');
    return { ...n, address: own.first, podCIDR: podCIDR.first, more: { name: n.name, address: own.second, podCIDR: podCIDR.second } };
  });
  const config = complete({
    ...file, underlay: { ...file.underlay, subnet: first.subnet },
    network: { ...network, clusterCIDR: first.clusterCIDR, serviceCIDR: serviceRange(serviceCIDR, [first, ...(other ? [other] : [])].map((r) => r.clusterCIDR), report), nodeMask: first.nodeMask },
    nodes: nodes.map(({ more: _, ...n }) => n),
  }, report, second);
  if (!second) return config;
  return withSecond(config, second, nodes.map((n) => n.more), report);
}

function withSecond(config: LabConfig, second: SecondFamily, wishes: Parameters<typeof secondAddresses>[1], report: Report): LabConfig {
  const more = secondAddresses(second, wishes, report);
  return { ...config, second, nodes: config.nodes.map((n, i) => ({ ...n, second: more[i]! })) };
}

/** Fills in addresses and checks what a schema cannot say. */
function complete(file: FirstFamily, report: Report, second?: SecondFamily): LabConfig {
  const subnet = parseCidr(file.underlay.subnet);
  const cluster = parseCidr(file.network.clusterCIDR);
  const services = file.network.serviceCIDR.split(',').map((r) => parseCidr(r.trim()));
  if (cluster.family === subnet.family && cidrOverlaps(cluster, subnet)) {
    report(['network', 'clusterCIDR'], `overlaps with the underlay's subnet ${formatCidr(subnet)}`);
  }
  if (file.network.gateway === 'link-local' && file.network.wiring !== 'ptp') report(['network', 'gateway'], 'link-local goes with wiring ptp');
  if (file.network.ipam === 'pools') {
    if (cluster.family === 4 && file.network.blockSize < cluster.prefix) report(['network', 'blockSize'], `must not be shorter than the cluster's /${cluster.prefix}`);
    file.nodes.forEach((n, i) => n.podCIDR !== undefined && report(['nodes', i, 'podCIDR'], 'has no meaning with ipam pools: nodes claim blocks'));
  }
  for (const [range, what] of [[cluster, "the cluster's range"], [subnet, "the underlay's subnet"],
    ...(second ? [[parseCidr(second.clusterCIDR), "the cluster's range"], [parseCidr(second.subnet), "the underlay's subnet"]] as const : [])] as const) {
    if (services.some((r) => r.family === range.family && cidrOverlaps(r, range))) report(['network', 'serviceCIDR'], `overlaps with ${what} ${formatCidr(range)}`);
  }
  if (file.network.nodeMask < cluster.prefix) report(['network', cluster.family === 4 ? 'nodeMask' : 'nodeMask6'], `must not be shorter than the cluster's /${cluster.prefix}`);
  const { racks, tunnels } = completeRacks(file.underlay, cluster, report);
  if (racks.length && file.underlay.switchMTU !== undefined) report(['underlay', 'switchMTU'], 'each rack has a switch of its own: give switchMTU there');
  const underlay: LabConfig['underlay'] = {
    subnet: formatCidr(subnet), prefix: subnet.prefix, gateway: formatIp(cidrNth(subnet, 1)), mtu: file.underlay.mtu,
    switchMTU: file.underlay.switchMTU ?? file.underlay.mtu, racks, tunnels,
  };
  checkNodes(file, underlay, report);
  const nodes = address(file, underlay, report);
  checkPods(file, report, second);
  if (file.network.cni === 'none' && file.pods.length) report(['pods'], 'cannot start without a network (network.cni is none); make them after podway network install');
  const config: LabConfig = {
    name: file.name, underlay, network: { ...file.network, clusterCIDR: formatCidr(cluster), mtu: file.network.mtu },
    ...(file.api === undefined ? {} : { api: file.api }), nodes, pods: file.pods, images: file.images,
  };
  checkBackend(config, report);
  return config;
}

function checkNodes(file: FirstFamily, underlay: LabConfig['underlay'], report: Report): void {
  const cluster = parseCidr(file.network.clusterCIDR);
  const parts = underlayParts(underlay).map((p) => p.name);
  const names = new Set<string>();
  for (const [i, n] of file.nodes.entries()) {
    if (names.has(n.name)) report(['nodes', i, 'name'], `"${n.name}" is there twice`);
    if (parts.includes(n.name) || n.name === 'underlay') report(['nodes', i, 'name'], `"${n.name}" is the name of a part of every lab`);
    names.add(n.name);
    if (n.rack !== undefined && !underlay.racks.some((r) => r.name === n.rack)) {
      report(['nodes', i, 'rack'], `there is no rack ${n.rack}; ${underlay.racks.length ? `racks: ${underlay.racks.map((r) => r.name).join(', ')}` : 'this underlay has none (underlay.racks)'}`);
    }
    if (n.podCIDR === undefined) continue;
    const own = parseCidr(n.podCIDR);
    if (own.family !== cluster.family || !cidrContains(cluster, { family: own.family, value: own.base }) || own.prefix < cluster.prefix) {
      report(['nodes', i, 'podCIDR'], `is not within the cluster's range ${formatCidr(cluster)}`);
    }
    const clash = file.nodes.findIndex((o, j) => j < i && o.podCIDR !== undefined && cidrOverlaps(parseCidr(o.podCIDR), own));
    if (clash >= 0) report(['nodes', i, 'podCIDR'], `overlaps with that of node ${file.nodes[clash]!.name}`);
  }
}

/** Puts every node into a subnet, with an address: as asked, or in turn and the next free one. */
function address(file: FirstFamily, underlay: LabConfig['underlay'], report: Report): LabNode[] {
  const all = segments(underlay);
  const emptiest = (): Segment => all.reduce((a, b) => (used.get(b)! < used.get(a)! ? b : a));
  const used = new Map(all.map((s) => [s, 0]));
  const within = file.nodes.map((n): Segment => {
    const given = n.rack === undefined
      ? n.address === undefined ? undefined : all.find((s) => s.rack && cidrContains(parseCidr(s.subnet), parseIp(n.address!)))
      : all.find((s) => s.rack?.name === n.rack);
    const s = given ?? emptiest();
    used.set(s, used.get(s)! + 1);
    return s;
  });
  const taken = new Map<string, string>(all.map((s) => [s.gateway, s.rack ? `the router of rack ${s.rack.name}` : "the underlay's router"]));
  for (const [i, n] of file.nodes.entries()) {
    if (n.address === undefined) continue;
    const subnet = parseCidr(within[i]!.subnet);
    const holder = taken.get(n.address);
    if (holder) report(['nodes', i, 'address'], `is already that of ${holder}`);
    const value = parseIp(n.address).value;
    const whose = within[i]!.rack ? `rack ${within[i]!.rack!.name}` : 'the underlay';
    if (subnet.family === 4 && (value === subnet.base || value === cidrLast(subnet).value)) {
      report(['nodes', i, 'address'], `is ${whose}'s own: the first and the last address of ${formatCidr(subnet)} are no node's`);
    }
    if (!cidrContains(subnet, parseIp(n.address))) report(['nodes', i, 'address'], `is not in ${whose}'s subnet ${formatCidr(subnet)}`);
    taken.set(n.address, `node ${n.name}`);
  }
  const next = new Map(all.map((s) => [s, 2]));
  return file.nodes.map((n, i): LabNode => {
    const segment = within[i]!;
    const subnet = parseCidr(segment.subnet);
    let own = n.address;
    while (own === undefined && BigInt(next.get(segment)!) < cidrSize(subnet) - 1n) {
      const candidate = formatIp(cidrNth(subnet, next.get(segment)!));
      next.set(segment, next.get(segment)! + 1);
      if (!taken.has(candidate)) own = candidate;
    }
    if (own === undefined) report(['nodes', i], `${segment.rack ? `rack ${segment.rack.name}` : 'the underlay'} ${formatCidr(subnet)} has no address left for it`);
    return {
      name: n.name, address: own ?? '', podCIDR: n.podCIDR,
      labels: { ...(segment.rack ? { [RACK_LABEL]: segment.rack.name } : {}), ...n.labels },
      ...(n.taints === undefined ? {} : { taints: n.taints }), ...(segment.rack ? { rack: segment.rack.name } : {}),
    };
  });
}

function checkPods(file: FirstFamily, report: Report, second?: SecondFamily): void {
  const names = file.nodes.map((n) => n.name);
  const pods = new Set<string>();
  for (const [i, p] of file.pods.entries()) {
    const key = `${p.namespace ?? 'default'}/${p.name}`;
    if (pods.has(key)) report(['pods', i, 'name'], `"${p.name}" is there twice`);
    pods.add(key);
    if (p.node !== undefined && !names.includes(p.node)) report(['pods', i, 'node'], `there is no node ${p.node}; nodes: ${[...new Set(names)].join(', ')}`);
    const range = file.nodes.find((n) => n.name === p.node)?.podCIDR ?? file.network.clusterCIDR;
    for (const wanted of p.address ?? []) {
      if (cidrContains(parseCidr(range), parseIp(wanted)) || (second && cidrContains(parseCidr(second.clusterCIDR), parseIp(wanted)))) continue;
      report(['pods', i, 'address'], range === file.network.clusterCIDR ? `is not in the cluster's range ${range}` : `is not in node ${p.node}'s range ${range}`);
    }
  }
}

/** What the agents would refuse is said before anything is made. */
function checkBackend(config: LabConfig, report: Report): void {
  const { type } = config.network.backend;
  const used = new Map<string, string>();
  for (const n of config.nodes) {
    const { subnet } = segmentOf(config, n);
    if (!used.has(subnet)) used.set(subnet, n.name);
  }
  if (type === 'host-gw' && used.size > 1) {
    const [a, b] = [...used].map(([subnet, name]) => `${name} is on ${subnet}`);
    report(['network', 'backend', 'type'], `host-gw reaches nodes of one subnet only: ${a}, ${b}; use vxlan with crossSubnet, or bgp with racks that have bgp: true`);
  }
  const mute = type === 'bgp' && config.network.backend.peers === undefined && used.size > 1 ? config.underlay.racks.filter((r) => r.asn === undefined) : [];
  if (mute.length) report(['network', 'backend', 'type'], `with bgp the routers must learn where pods are: rack ${mute.map((r) => r.name).join(', ')} needs bgp: true`);
  try {
    parseNetworkConfig(netConf(config));
  } catch (e) {
    if (!isPodwayError(e, 'NETWORK_CONFIG_INVALID')) throw e;
    report(['network', 'backend'], e.said ?? e.message);
  }
}

/** A lab with one node more. @throws NODE_INVALID with everything that is wrong */
export function withNode(c: LabConfig, node: { readonly name: string; readonly address?: string | readonly string[]; readonly podCIDR?: string | readonly string[]; readonly labels?: Readonly<Record<string, string>>; readonly rack?: string }): LabConfig {
  const mistakes: string[] = [];
  const read = nodeSchema.safeParse(node);
  let config: LabConfig | undefined;
  const report: Report = (path, message) => mistakes.push(`${path.slice(path[0] === 'nodes' ? 2 : 0).join('.')}: ${message}`);
  if (read.success) {
    const [own, podCIDR] = [byFamily(read.data.address, c.underlay.subnet), byFamily(read.data.podCIDR, c.network.clusterCIDR)];
    const wishes = [
      ...c.nodes.map((n) => ({ name: n.name, address: n.second?.address, podCIDR: n.second?.podCIDR })),
      { name: read.data.name, address: own.second, podCIDR: podCIDR.second },
    ];
    if (!c.second && (own.second ?? podCIDR.second) !== undefined) report(['nodes', c.nodes.length, 'address'], `${own.second ?? podCIDR.second} is of a family that this lab has not`);
    if (c.second && (podCIDR.first === undefined) !== (podCIDR.second === undefined)) report(['nodes', c.nodes.length, 'podCIDR'], 'give one range of each family, or none');
    config = complete(again(c, { ...read.data, address: own.first, podCIDR: podCIDR.first }), report, c.second);
    if (c.second) config = withSecond(config, c.second, wishes, report);
    // What a file cannot say of a node is as it was.
    config = { ...config, nodes: config.nodes.map((n) => ({ ...n, ...c.nodes.find((o) => o.name === n.name) })) };
  } else for (const issue of read.error.issues) mistakes.push(`${issue.path.join('.')}: ${issue.message}`);
  if (config && mistakes.length === 0) return config;
  throw new PodwayError('NODE_INVALID', `node ${node.name} cannot be added`, { object: `lab ${c.name}`, said: mistakes.join('; ') });
}

/** The ranges of Services, in the order given. */
export const serviceCidrs = (c: LabConfig): string[] => c.network.serviceCIDR.split(',').map((r) => formatCidr(parseCidr(r.trim())));

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

/** The file that a lab would have been made from, with one node more. */
function again(c: LabConfig, more: FirstOfNode): FirstFamily {
  const { subnet, mtu: bytes, switchMTU, racks, tunnels } = c.underlay;
  const nodes = c.nodes.map(({ name, address: at, podCIDR, labels, rack }) => ({
    name, address: at, labels: { ...labels }, ...(podCIDR === undefined ? {} : { podCIDR }), ...(rack === undefined ? {} : { rack }),
  }));
  return {
    apiVersion: API_VERSION, kind: 'Lab', name: c.name, network: { ...c.network, backend: { ...c.network.backend } }, pods: [...c.pods], images: { ...c.images },
    underlay: {
      subnet, mtu: bytes, ...(racks.length ? {} : { switchMTU }),
      racks: racks.map(({ link, asn, ...r }) => ({ name: r.name, subnet: r.subnet, mtu: r.mtu, switchMTU: r.switchMTU, link: { mtu: link.mtu }, ...(asn === undefined ? {} : { asn }) })),
      tunnels: tunnels.map((t) => ({ between: [...t.between], mtu: t.link.mtu })),
    },
    nodes: [...nodes, more],
  };
}

/** The ranges of a lab's families, the first first. */
export const clusterRanges = (c: LabConfig): { readonly cidr: string; readonly nodePrefix: number }[] =>
  [c.network, ...(c.second ? [c.second] : [])].map((r) => ({ cidr: r.clusterCIDR, nodePrefix: r.nodeMask }));

/** A node's addresses, one a family. */
export const nodeAddresses = (n: LabNode): string[] => [n.address, ...(n.second ? [n.second.address] : [])];

/** The network as the agents read it: a net-conf.json. Keys of BGP stand there for every backend: it may be changed to bgp later. */
export function netConf(c: LabConfig): string {
  const { backend: b } = c.network;
  const [v4, v6] = [false, true].map((six) => clusterRanges(c).find((r) => r.cidr.includes(':') === six)?.cidr);
  const racks = c.underlay.racks.flatMap((r) => (r.asn === undefined ? [] : [{ Address: r.gateway, ASN: r.asn, NodeSelector: `${RACK_LABEL}=${r.name}` }]));
  const peers = (b.peers ?? []).map((p) => present({ Address: p.address, ASN: p.asn, Password: p.password, NodeSelector: p.nodeSelector, Import: p.import, Multihop: p.multihop }));
  return `${JSON.stringify({
    ...(v4 === undefined ? { EnableIPv4: false } : { Network: v4 }), ...(v6 === undefined ? {} : { EnableIPv6: true, IPv6Network: v6 }),
    Wiring: c.network.wiring, Gateway: c.network.gateway, IPAM: c.network.ipam,
    Masquerade: c.network.masquerade, Proxy: c.network.proxy, ...(c.network.mtu === undefined ? {} : { MTU: c.network.mtu }),
    Backend: present({
      Type: b.type, VNI: b.vni, Port: b.port, CrossSubnet: b.crossSubnet, DF: b.df, ASN: b.asn, Mesh: b.mesh, Reflectors: b.reflectors, ClusterID: b.clusterId,
      Password: b.password, HoldTime: b.holdTime, Peers: racks.length + peers.length ? [...racks, ...peers] : undefined,
    }),
  })}\n`;
}

const present = (o: object): object => Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined));
