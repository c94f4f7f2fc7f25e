/**
 * Addresses and node ports of Services. What is taken is what the Services that exist have: there is no
 * second record that could differ from it, so nothing is given twice and nothing is lost, whatever ends when.
 *
 * New ones are drawn at random from the upper part of a range, whose lower part is left to those who ask
 * for a certain address (KEP-3070): what was just given back is not given again at once, and connections
 * that are still remembered do not end at a stranger's.
 * Source: k8s.io/kubernetes/pkg/registry/core/service/{ipallocator,portallocator,storage}.
 */
import { randomInt } from 'node:crypto';
import { cidrContains, cidrNth, formatIp, parseCidr, parseIp } from '@podway/cni';
import { familyOfIp, type IpFamily, type Service } from '@podway/kube';
import { invalid, type FieldError } from '../errors.js';
import type { ApiObject } from '../object.js';

export interface ServiceRanges {
  /** One, or one of each family; the first is the primary one. */
  readonly serviceCidrs: readonly string[];
  readonly nodePorts: { readonly from: number; readonly to: number };
}

/** kubeadm's and kind's. */
export const DEFAULT_SERVICE_RANGES: ServiceRanges = { serviceCidrs: ['10.96.0.0/12'], nodePorts: { from: 30_000, to: 32_767 } };

type Spec = { -readonly [K in keyof NonNullable<Service['spec']>]: NonNullable<Service['spec']>[K] };
type Port = { name?: string; port: number; protocol?: string; nodePort?: number };
const specOf = (o: ApiObject): Spec => (o.spec ??= {}) as unknown as Spec;

/** Fills in what the Service lacks. In place; nothing is kept anywhere else. */
export function allocateService(object: ApiObject, before: ApiObject | undefined, others: readonly ApiObject[], ranges: ServiceRanges): FieldError[] {
  const spec = specOf(object);
  const errors: FieldError[] = [];
  if (spec.type !== 'ExternalName') errors.push(...allocateAddresses(spec, before, others, ranges));
  errors.push(...allocateNodePorts(spec, others, ranges));
  return errors;
}

function allocateAddresses(spec: Spec, before: ApiObject | undefined, others: readonly ApiObject[], ranges: ServiceRanges): FieldError[] {
  const byFamily = new Map<IpFamily, string>(ranges.serviceCidrs.map((c) => [familyOfIp(c), c]));
  const primary = familyOfIp(ranges.serviceCidrs[0]!);
  const given = (spec.clusterIPs?.length ? spec.clusterIPs : spec.clusterIP ? [spec.clusterIP] : []).filter((ip) => ip !== '');
  const headless = given[0] === 'None';
  spec.ipFamilyPolicy ??= (spec.ipFamilies ?? []).length > 1 || given.length > 1 ? 'RequireDualStack' : 'SingleStack';
  const families = new Set<IpFamily>((spec.ipFamilies ?? []) as IpFamily[]);
  if (!headless) for (const ip of given) families.add(familyOfIp(ip));
  if (headless && Object.keys(spec.selector ?? {}).length === 0 && (spec.ipFamilies ?? []).length === 0 && spec.ipFamilyPolicy === 'SingleStack' && byFamily.size > 1) {
    // Without a selector nobody knows what it will hold: Kubernetes lets it have both.
    spec.ipFamilyPolicy = 'RequireDualStack';
  }
  if (families.size === 0) families.add(primary);
  if (spec.ipFamilyPolicy !== 'SingleStack') for (const f of [primary, ...byFamily.keys()]) if (byFamily.has(f)) families.add(f);
  spec.ipFamilies = [...families];
  if (headless) {
    spec.clusterIP = 'None';
    spec.clusterIPs = ['None'];
    return [];
  }
  const taken = new Set(others.flatMap((o) => specOf(o).clusterIPs ?? []));
  const own = new Set(before ? (specOf(before).clusterIPs ?? []) : []);
  const errors: FieldError[] = [];
  const ips = [...families].map((family, i) => {
    const cidr = byFamily.get(family);
    const asked = given.find((ip) => familyOfIp(ip) === family);
    const at = `spec.clusterIPs[${String(i)}]`;
    if (cidr === undefined) return asked ?? '';
    if (asked === undefined) {
      const free = freeAddress(cidr, taken);
      if (free === undefined) errors.push(invalid(at, '', 'failed to allocate IP: range is full'));
      return free ?? '';
    }
    if (own.has(asked)) return asked;
    if (!cidrContains(parseCidr(cidr), parseIp(asked))) {
      errors.push(invalid(at, asked, `failed to allocate IP ${asked}: the provided IP (${asked}) is not in the valid range. The range of valid IPs is ${cidr}`));
    } else if (taken.has(formatIp(parseIp(asked)))) errors.push(invalid(at, asked, `failed to allocate IP ${asked}: provided IP is already allocated`));
    return formatIp(parseIp(asked));
  });
  spec.clusterIPs = ips;
  spec.clusterIP = ips[0] ?? '';
  return errors;
}

/** How much of a range is kept for those who ask: between 16 and 256 of it, a sixteenth otherwise. */
const staticBand = (size: number): number => Math.min(Math.max(16, Math.floor(size / 16)), 256, Math.floor(size / 2));

export function freeAddress(cidr: string, taken: ReadonlySet<string>): string | undefined {
  const range = parseCidr(cidr);
  const bits = (range.family === 4 ? 32 : 128) - range.prefix;
  // The first is the network's own, and in IPv4 the last its broadcast address. More than 2^20 nobody needs.
  const size = Math.min(2 ** Math.min(bits, 20), 2 ** 20) - (range.family === 4 ? 2 : 1);
  const nth = (n: number): string => formatIp(cidrNth(range, n));
  const band = staticBand(size);
  const upper = size - band;
  const start = upper > 0 ? randomInt(upper) : 0;
  for (let i = 0; i < upper; i++) {
    const ip = nth(1 + band + ((start + i) % upper));
    if (!taken.has(ip)) return ip;
  }
  for (let n = 1; n <= band; n++) if (!taken.has(nth(n))) return nth(n);
  return undefined;
}

function allocateNodePorts(spec: Spec, others: readonly ApiObject[], ranges: ServiceRanges): FieldError[] {
  const errors: FieldError[] = [];
  const taken = new Set<string>();
  const checks = new Set<number>();
  for (const o of others) {
    const s = specOf(o);
    for (const p of s.ports ?? []) if (p.nodePort) taken.add(`${p.protocol ?? 'TCP'} ${String(p.nodePort)}`);
    if (s.healthCheckNodePort) checks.add(s.healthCheckNodePort);
  }
  const { from, to } = ranges.nodePorts;
  const isTaken = (protocol: string, port: number): boolean => taken.has(`${protocol} ${String(port)}`) || (protocol === 'TCP' && checks.has(port));
  const refusal = (at: string, port: number): FieldError[] =>
    port < from || port > to ? [invalid(at, port, `provided port is not in the valid range. The range of valid ports is ${String(from)}-${String(to)}`)] : [];
  const wanted = spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
  const given = new Map<number, number>();
  for (const [i, p] of ((spec.ports ?? []) as Port[]).entries()) {
    if (spec.type !== 'NodePort' && spec.type !== 'LoadBalancer') break;
    const at = `spec.ports[${String(i)}].nodePort`;
    const protocol = p.protocol ?? 'TCP';
    if (p.nodePort) {
      errors.push(...refusal(at, p.nodePort));
      if (isTaken(protocol, p.nodePort)) errors.push(invalid(at, p.nodePort, 'provided port is already allocated'));
    } else if (wanted) {
      // A port of two protocols gets one number where that is free.
      const same = given.get(p.port);
      const free = same !== undefined && !isTaken(protocol, same) ? same : freePort(from, to, (port) => isTaken(protocol, port));
      if (free === undefined) errors.push(invalid(at, 0, 'failed to allocate a nodePort: range is full'));
      else p.nodePort = free;
    }
    if (p.nodePort) {
      taken.add(`${protocol} ${String(p.nodePort)}`);
      given.set(p.port, p.nodePort);
    }
  }
  if (spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local') {
    const at = 'spec.healthCheckNodePort';
    if (spec.healthCheckNodePort) {
      errors.push(...refusal(at, spec.healthCheckNodePort));
      if (isTaken('TCP', spec.healthCheckNodePort)) errors.push(invalid(at, spec.healthCheckNodePort, 'provided port is already allocated'));
    } else {
      const free = freePort(from, to, (port) => isTaken('TCP', port));
      if (free === undefined) errors.push(invalid(at, 0, 'failed to allocate a nodePort: range is full'));
      else spec.healthCheckNodePort = free;
    }
  }
  return errors;
}

function freePort(from: number, to: number, isTaken: (port: number) => boolean): number | undefined {
  const size = to - from + 1;
  const band = Math.min(Math.max(16, Math.floor(size / 32)), 128, Math.floor(size / 2));
  const upper = size - band;
  const start = randomInt(upper);
  for (let i = 0; i < upper; i++) {
    const port = from + band + ((start + i) % upper);
    if (!isTaken(port)) return port;
  }
  for (let port = from; port < from + band; port++) if (!isTaken(port)) return port;
  return undefined;
}

/** The first address of the range: the API server's own, Service `kubernetes`. */
export const apiServiceAddress = (ranges: ServiceRanges): string => formatIp(cidrNth(parseCidr(ranges.serviceCidrs[0]!), 1));
/** The tenth: DNS, Service `kube-dns`. */
export const dnsServiceAddress = (ranges: ServiceRanges): string => formatIp(cidrNth(parseCidr(ranges.serviceCidrs[0]!), 10));
