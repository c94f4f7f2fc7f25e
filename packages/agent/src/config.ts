/**
 * What a cluster's network is: its ranges and how packets get between nodes. Flannel's
 * `net-conf.json` is accepted unchanged; Podway's own settings stand beside its keys.
 * Source of the format: flannel Documentation/configuration.md and backends.md.
 */
import { describeIssues, formatCidr, parseCidr, tryParseIpCidr } from '@podway/cni';
import { PodwayError } from '@podway/errors';
import { z } from 'zod';
import { bgpProblems, type BgpSettings } from './bgp/settings.js';
import { IMPLEMENTATIONS, wireguardProblems, type WireguardConfig } from './wireguard/settings.js';

export interface VxlanConfig {
  readonly type: 'vxlan';
  readonly vni: number;
  /** UDP port. Flannel's and the kernel's historical 8472, not IANA's 4789. */
  readonly port: number;
  /** Name of the VTEP. */
  readonly device: string;
  /** Name of the VTEP on an IPv6 underlay. */
  readonly device6: string;
  /** Encapsulate only for nodes on another subnet (Flannel's DirectRouting). */
  readonly crossSubnet: boolean;
  /** Of the outer IPv4 header. `inherit`: as the inner one has it. With `set` a packet that does not fit the underlay is dropped, not fragmented. */
  readonly df: (typeof OUTER_DF)[number];
}

/** In the order of enum ifla_vxlan_df (linux/if_link.h). */
export const OUTER_DF = ['unset', 'set', 'inherit'] as const;

export interface HostGwConfig {
  readonly type: 'host-gw';
}

export interface IpipConfig {
  readonly type: 'ipip';
  readonly device: string;
  readonly crossSubnet: boolean;
}

/** Routes between nodes are somebody else's job. */
export interface NoneConfig {
  readonly type: 'none';
}

export type BackendConfig = VxlanConfig | HostGwConfig | IpipConfig | WireguardConfig | BgpSettings | NoneConfig;
export type BackendType = BackendConfig['type'];

export const WIRINGS = ['bridge', 'ptp'] as const;
export type WiringType = (typeof WIRINGS)[number];

export const PROXIES = ['podway', 'none'] as const;
export type ProxyType = (typeof PROXIES)[number];

export interface NetworkConfig<B extends BackendConfig = BackendConfig> {
  readonly clusterCidrs: readonly string[];
  readonly backend: B;
  /** MTU of pods; derived from the uplink and the backend's overhead when absent. */
  readonly mtu?: number;
  /** How a pod is connected to its node. */
  readonly wiring: WiringType;
  /** ptp: the pods' next hop is 169.254.1.1 and fe80::ecee:eeee:eeee:eeee, and no address of the range. */
  readonly gateway?: 'link-local';
  readonly bridge: string;
  /** Masquerade what leaves the cluster. */
  readonly masquerade: boolean;
  /** Who realises Services: this agent, or somebody else (kube-proxy). */
  readonly proxy: ProxyType;
  /** pools: nodes claim blocks of IPPool objects; else each has the ranges of its Node object. */
  readonly ipam?: 'pools';
  /** Make the networks of the annotation k8s.v1.cni.cncf.io/networks; false where Multus does. */
  readonly furtherInterfaces: boolean;
}

const cidr = z.string().refine((s) => tryParseIpCidr(s) !== undefined, 'not a range in CIDR notation');
const ifname = z.string().regex(/^[^\s/:]{1,15}$/, 'not a device name (at most 15 characters, no slash, colon or space)');
const mtu = z.number().int().min(576).max(65535);

/** Flannel's keys are capitalised; those of other kinds of backend are let be. */
const schema = z.object({
  Network: cidr.optional(),
  IPv6Network: cidr.optional(),
  EnableIPv4: z.boolean().optional(),
  EnableIPv6: z.boolean().optional(),
  Wiring: z.enum(WIRINGS).default('bridge'),
  Gateway: z.enum(['host', 'link-local']).default('host'),
  Bridge: ifname.default('cni0'),
  IPAM: z.enum(['podCIDR', 'pools']).default('podCIDR'),
  FurtherInterfaces: z.boolean().default(true),
  Masquerade: z.boolean().default(true),
  Proxy: z.enum(PROXIES).default('podway'),
  MTU: mtu.optional(),
  Backend: z.object({
    Type: z.string(),
    VNI: z.number().int().min(1).max(0xffffff).default(1),
    Port: z.number().int().min(1).max(65535).default(8472),
    Device: ifname.optional(),
    DirectRouting: z.boolean().optional(),
    CrossSubnet: z.boolean().optional(),
    DF: z.enum(OUTER_DF).default('unset'),
    MTU: mtu.optional(),
    ListenPort: z.number().int().min(1).max(65535).default(51820),
    PSK: z.string().optional(),
    PersistentKeepaliveInterval: z.number().int().min(0).max(65535).default(0),
    Implementation: z.enum(IMPLEMENTATIONS).default('auto'),
    KeyGeneration: z.number().int().min(0).max(1_000_000).default(0),
    KeyNodes: z.array(z.string()).optional(),
    ASN: z.number().int().default(64512),
    Mesh: z.boolean().default(true),
    Reflectors: z.array(z.string()).default([]),
    ClusterID: z.string().optional(),
    Peers: z.array(z.strictObject({
      Address: z.string(),
      ASN: z.number().int(),
      Password: z.string().optional(),
      NodeSelector: z.string().optional(),
      Import: z.union([z.enum(['cluster', 'default', 'all', 'none']), z.array(z.string())]).optional(),
      Multihop: z.number().int().optional(),
    })).default([]),
    Password: z.string().optional(),
    HoldTime: z.number().int().optional(),
  }),
});

type Raw = z.output<typeof schema>['Backend'];

/** One line a backend. The device names of the first two are what tutorials and tools look for. */
const BACKENDS: { readonly [T in BackendType]: (raw: Raw) => Extract<BackendConfig, { type: T }> } = {
  vxlan: (b) => ({ type: 'vxlan', vni: b.VNI, port: b.Port, ...vtepNames(b.VNI, b.Device), crossSubnet: b.CrossSubnet ?? b.DirectRouting ?? false, df: b.DF }),
  'host-gw': () => ({ type: 'host-gw' }),
  ipip: (b) => ({ type: 'ipip', device: b.Device ?? 'flannel.ipip', crossSubnet: b.CrossSubnet ?? b.DirectRouting ?? false }),
  wireguard: (b) => defined({
    type: 'wireguard' as const, device: b.Device ?? 'podway.wg', port: b.ListenPort, implementation: b.Implementation, keepalive: b.PersistentKeepaliveInterval,
    presharedKey: b.PSK || undefined, generation: b.KeyGeneration, renew: b.KeyNodes,
  }),
  bgp: (b) => defined({
    type: 'bgp' as const, asn: b.ASN, mesh: b.Mesh, reflectors: b.Reflectors, clusterId: b.ClusterID, password: b.Password, holdTime: b.HoldTime,
    peers: b.Peers.map((p) => defined({
      address: p.Address, asn: p.ASN, password: p.Password, nodeSelector: p.NodeSelector, import: p.Import, multihop: p.Multihop,
    })),
  }),
  none: () => ({ type: 'none' }),
};

/** `flannel.1` and `flannel-v6.1`, as Flannel calls them; shorter where the name of a device has no room for a long VNI. */
function vtepNames(vni: number, device: string | undefined): { device: string; device6: string } {
  const fitting = (...names: string[]): string => names.find((n) => n.length <= 15) ?? '';
  if (device === undefined) return { device: fitting(`flannel.${vni}`, `fl.${vni}`), device6: fitting(`flannel-v6.${vni}`, `fl-v6.${vni}`) };
  return { device, device6: `${device.slice(0, 12)}-v6` };
}

/** Without what is undefined. */
function defined<T extends object>(o: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined)) as { [K in keyof T]: Exclude<T[K], undefined> };
}

export const BACKEND_TYPES = Object.keys(BACKENDS) as BackendType[];

const isBackendType = (type: string): type is BackendType => (BACKEND_TYPES as string[]).includes(type);

/**
 * @param text a net-conf.json, such as `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":1,"Port":8472}}`
 * @throws NETWORK_CONFIG_INVALID saying where and what
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  const bad = (said: string) =>
    new PodwayError('NETWORK_CONFIG_INVALID', 'the network configuration cannot be used', {
      said, hint: 'A valid one: {"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}',
    });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (e) {
    throw bad(`not JSON: ${(e as Error).message}`);
  }
  const read = schema.safeParse(json);
  if (!read.success) throw bad(describeIssues(read.error));
  const c = read.data;
  const clusterCidrs = [c.EnableIPv4 === false ? undefined : c.Network, c.EnableIPv6 === false ? undefined : c.IPv6Network]
    .filter((x) => x !== undefined)
    .map((x) => formatCidr(parseCidr(x)));
  if (clusterCidrs.length === 0) throw bad('Network: missing (the range that all pods are in)');
  const type = c.Backend.Type;
  if (!isBackendType(type)) throw bad(`Backend.Type: "${type}" is not one of: ${BACKEND_TYPES.join(', ')}`);
  const asked = c.MTU ?? c.Backend.MTU;
  const backend = BACKENDS[type](c.Backend);
  if (backend.type === 'ipip' && clusterCidrs.some((r) => r.includes(':'))) {
    throw bad('Backend.Type: "ipip" carries IPv4 packets only, and IPv6Network is set: use vxlan, host-gw, wireguard or bgp for IPv6');
  }
  const wrong = backend.type === 'bgp' ? bgpProblems(backend) : backend.type === 'wireguard' ? wireguardProblems(backend) : [];
  if (wrong.length) throw bad(wrong.join('; '));
  const linkLocal = c.Gateway === 'link-local';
  if (linkLocal && c.Wiring !== 'ptp') throw bad(`Gateway: link-local goes with wiring ptp; wiring ${c.Wiring} has its gateway on the bridge`);
  return {
    clusterCidrs, wiring: c.Wiring, ...(linkLocal ? { gateway: 'link-local' as const } : {}), bridge: c.Bridge, masquerade: c.Masquerade, proxy: c.Proxy, ...(c.IPAM === 'pools' ? { ipam: 'pools' as const } : {}), furtherInterfaces: c.FurtherInterfaces, ...(asked === undefined ? {} : { mtu: asked }),
    backend,
  };
}
