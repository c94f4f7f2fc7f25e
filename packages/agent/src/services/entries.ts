/**
 * What one Service puts into the maps and sets of the table. Pure: the only place where it is decided which
 * packet goes to which endpoint.
 *
 *  - `services`: who is reached by address, protocol and port, and by which list of endpoints (`goto any-3`:
 *    one of three)
 *  - `endpoints`: the lists, `address . protocol . port . index → endpoint`
 *  - `outside`: the same question for packets from beyond the cluster where only this node's endpoints may
 *    be used (externalTrafficPolicy Local); their list stands in `endpoints` from index 0x4001 on
 *  - `refused`: nobody there. The sender is told at once
 *
 * Source: https://kubernetes.io/docs/reference/networking/virtual-ips/, kube-proxy's own conduct for what the
 * documentation leaves open (no local endpoint: dropped; no endpoint at all: rejected).
 */
import { isIP } from 'node:net';
import { cidrContains, cidrOverlaps, formatCidr, formatIp, parseIp, tryParseIpCidr, type Cidr } from '@podway/cni';
import { familyOfIp, usableEndpoints, type IpFamily, type ServiceEndpoint, type ServiceModel, type ServicePort } from '@podway/kube';

export const SETS = ['services', 'endpoints', 'outside', 'refused', 'clusterips', 'external', 'preserved', 'loops', 'affine', 'guarded', 'allowed'] as const;
export type SetKind = (typeof SETS)[number];
/** `services4`, `services6`. */
export type SetName = `${SetKind}${4 | 6}`;

export interface Entry {
  readonly set: SetName;
  /** As nft writes it: `10.96.0.1 . tcp . 80`. */
  readonly key: string;
  /** Of a map; empty for sets. */
  readonly value: string;
}

/** This node, as far as Services need it. */
export interface ServiceNode {
  readonly name: string;
  /** By which NodePorts are reached. */
  readonly addresses: readonly string[];
}

/** Where the lists of this node's own endpoints begin. The index travels in skb->priority, whose major part stays 0. */
export const LOCAL_OFFSET = 0x4000;
export const MOST_ENDPOINTS = LOCAL_OFFSET - 1;

const digit = (f: IpFamily): 4 | 6 => (f === 'IPv4' ? 4 : 6);
/** nft's writing of a traffic class, which the index is kept as. */
export const indexText = (n: number): string => `0:${n.toString(16)}`;

export const chainOf = (kind: 'any' | 'here', count: number, sticky: boolean): string => `${sticky ? 'stick-' : ''}${kind}-${count}`;
export const rememberChain = (seconds: number): string => `remember-${seconds}`;

export function serviceEntries(s: ServiceModel, node: ServiceNode): Entry[] {
  if (s.headless || s.type === 'ExternalName') return [];
  return s.ports.flatMap((p) => (['IPv4', 'IPv6'] as const).flatMap((family) => portEntries(s, p, family, node)));
}

/** The addresses by which a port is reached, with what they are. */
export interface Frontend {
  readonly address: string;
  readonly port: number;
  readonly kind: 'ClusterIP' | 'NodePort' | 'ExternalIP' | 'LoadBalancer';
}

export function frontendsOf(s: ServiceModel, p: ServicePort, family: IpFamily, node: ServiceNode): Frontend[] {
  const of = (kind: Frontend['kind'], ips: readonly string[], port: number): Frontend[] =>
    [...new Set(ips.filter((ip) => isIP(ip) !== 0 && familyOfIp(ip) === family).map((ip) => (family === 'IPv4' ? ip : formatIp(parseIp(ip)))))].map((address) => ({ address, port, kind }));
  return [
    ...of('ClusterIP', s.clusterIPs, p.port),
    ...of('ExternalIP', s.externalIPs, p.port),
    ...of('LoadBalancer', s.loadBalancerIPs, p.port),
    ...(p.nodePort === undefined ? [] : of('NodePort', node.addresses, p.nodePort)),
  ];
}

function portEntries(s: ServiceModel, p: ServicePort, family: IpFamily, node: ServiceNode): Entry[] {
  const f = digit(family);
  const all = p.endpoints[family];
  const any = capped(usableEndpoints(all));
  const here = capped(usableEndpoints(all, 'Local', node.name));
  const entries: Entry[] = [];
  const put = (set: SetKind, key: string, value = ''): void => void entries.push({ set: `${set}${f}`, key, value });
  const sticky = s.affinitySeconds !== undefined;

  for (const { address, port, kind } of frontendsOf(s, p, family, node)) {
    const key = `${address} . ${p.protocol.toLowerCase()} . ${port}`;
    const list = (endpoints: readonly ServiceEndpoint[], offset: number): void =>
      endpoints.forEach((e, i) => put('endpoints', `${key} . ${indexText(offset + i + 1)}`, `${e.address} . ${e.port}`));
    const within = kind === 'ClusterIP' && s.internalTrafficPolicy === 'Local' ? here : any;
    if (kind === 'ClusterIP') put('clusterips', address);
    if (any.length === 0) {
      put('refused', key, 'goto refuse');
      continue;
    }
    // Endpoints there are, but none that may be used from here: dropped, as the policy's documentation says.
    if (within.length === 0) {
      put('refused', key, 'drop');
      continue;
    }
    put('services', key, `goto ${chainOf('any', within.length, sticky)}`);
    list(within, 0);
    if (sticky && f === 4) put('affine', key, `goto ${rememberChain(s.affinitySeconds!)}`);
    if (kind === 'ClusterIP') continue;
    if (s.externalTrafficPolicy === 'Local') {
      put('preserved', key);
      put('outside', key, here.length ? `goto ${chainOf('here', here.length, sticky)}` : 'drop');
      list(here, LOCAL_OFFSET);
    } else put('external', key);
    if (kind === 'LoadBalancer' && s.loadBalancerSourceRanges) entries.push(...guard(key, f, s.loadBalancerSourceRanges));
  }
  // A pod that reaches itself must not see its own address as the sender: only its own node can see to that.
  for (const e of any) if (e.node === node.name) put('loops', `${e.address} . ${e.address}`);
  return entries;
}

const capped = (list: readonly ServiceEndpoint[]): readonly ServiceEndpoint[] => (list.length > MOST_ENDPOINTS ? list.slice(0, MOST_ENDPOINTS) : list);

/** Ranges without those that lie in others: overlapping ones have no place in one set. */
function guard(key: string, f: 4 | 6, texts: readonly string[]): Entry[] {
  const ranges = texts.flatMap((t): Cidr[] => {
    const c = tryParseIpCidr(t)?.cidr;
    return c && c.family === f ? [c] : [];
  });
  const widest = ranges.filter((r, i) => !ranges.some((o, j) => j !== i && cidrOverlaps(o, r) && (o.prefix < r.prefix || (o.prefix === r.prefix && j < i))));
  if (widest.some((r) => r.prefix === 0)) return [];
  const whole = f === 4 ? 32 : 128;
  return [
    { set: `guarded${f}`, key, value: '' },
    ...widest.map((r): Entry => ({ set: `allowed${f}`, key: `${key} . ${r.prefix === whole ? formatCidr(r).split('/')[0]! : formatCidr(r)}`, value: '' })),
  ];
}

/** Whether an address is in a range, for callers that explain a guard. */
export const isAllowed = (ranges: readonly string[], address: string): boolean =>
  ranges.some((r) => {
    const c = tryParseIpCidr(r)?.cidr;
    return c !== undefined && cidrContains(c, parseIp(address));
  });
