/**
 * What a Service may be, in Kubernetes' words. Pure.
 * Source: k8s.io/kubernetes/pkg/apis/core/validation (ValidateService), pkg/registry/core/service/strategy.go.
 */
import { isIP } from 'node:net';
import { dns1123LabelErrors, dns1123SubdomainErrors, labelValueErrors, portNameErrors, qualifiedNameErrors, type Service } from '@podway/kube';
import { parseCidr, tryParseIpCidr } from '@podway/cni';
import { duplicate, invalid, notAllowed, required, unsupported, type FieldError } from '../errors.js';
import type { ApiObject } from '../object.js';
import type { ServiceRanges } from './serviceallocation.js';

type Spec = NonNullable<Service['spec']>;
const specOf = (o: ApiObject): Spec => (o.spec ?? {}) as unknown as Spec;

const TYPES = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const POLICIES = ['Cluster', 'Local'];
const IP_MESSAGE = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';
const oneOf = (at: string, value: string | undefined, allowed: readonly string[]): FieldError[] =>
  value === undefined || allowed.includes(value) ? [] : [unsupported(at, value, allowed)];
const portRange = (at: string, value: unknown): FieldError[] =>
  typeof value === 'number' && value >= 1 && value <= 65535 ? [] : [invalid(at, value, 'must be between 1 and 65535, inclusive')];
const isOutside = (spec: Spec): boolean => spec.type === 'NodePort' || spec.type === 'LoadBalancer';
const isHeadless = (spec: Spec): boolean => spec.clusterIP === 'None' || spec.clusterIPs?.[0] === 'None';

export function validateService(object: ApiObject, ranges: ServiceRanges): FieldError[] {
  const spec = specOf(object);
  const errors: FieldError[] = [...oneOf('spec.type', spec.type, TYPES), ...oneOf('spec.sessionAffinity', spec.sessionAffinity, ['ClientIP', 'None'])];
  const ports = spec.ports ?? [];
  if (ports.length === 0 && !isHeadless(spec) && spec.type !== 'ExternalName') errors.push(required('spec.ports'));
  if (spec.type === 'LoadBalancer' && isHeadless(spec)) errors.push(invalid('spec.clusterIPs[0]', 'None', 'may not be set to \'None\' for LoadBalancer services'));
  if (spec.type === 'NodePort' && isHeadless(spec)) errors.push(invalid('spec.clusterIPs[0]', 'None', 'may not be set to \'None\' for NodePort services'));
  if (spec.type === 'ExternalName') {
    if ((spec.clusterIP ?? '') !== '' || (spec.clusterIPs ?? []).length > 0) errors.push(notAllowed('spec.clusterIPs', 'may not be set for ExternalName services'));
    if ((spec.externalName ?? '') === '') errors.push(required('spec.externalName'));
    else errors.push(...dns1123SubdomainErrors(spec.externalName!.replace(/\.$/, '')).map((e) => invalid('spec.externalName', spec.externalName, e)));
  }
  errors.push(...validatePorts(spec), ...families(spec, ranges), ...affinity(spec));
  for (const [k, v] of Object.entries(spec.selector ?? {})) {
    errors.push(...qualifiedNameErrors(k).map((e) => invalid('spec.selector', k, e)), ...labelValueErrors(v).map((e) => invalid('spec.selector', v, e)));
  }
  for (const [i, ip] of (spec.externalIPs ?? []).entries()) {
    const at = `spec.externalIPs[${String(i)}]`;
    if (isIP(ip) === 0) errors.push(invalid(at, ip, IP_MESSAGE));
    else errors.push(...nonSpecial(at, ip));
  }
  errors.push(...oneOf('spec.internalTrafficPolicy', spec.internalTrafficPolicy, POLICIES));
  if (spec.externalTrafficPolicy !== undefined) {
    if (!isOutside(spec) && (spec.externalIPs ?? []).length === 0) errors.push(invalid('spec.externalTrafficPolicy', spec.externalTrafficPolicy, 'may only be set for externally-accessible services'));
    else errors.push(...oneOf('spec.externalTrafficPolicy', spec.externalTrafficPolicy, POLICIES));
  }
  if (spec.healthCheckNodePort !== undefined && spec.healthCheckNodePort !== 0 && !(spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local')) {
    errors.push(invalid('spec.healthCheckNodePort', spec.healthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"));
  }
  if ((spec.loadBalancerSourceRanges ?? []).length > 0) {
    if (spec.type !== 'LoadBalancer') errors.push(notAllowed('spec.LoadBalancerSourceRanges', "may only be used when `type` is 'LoadBalancer'"));
    for (const [i, r] of spec.loadBalancerSourceRanges!.entries()) {
      if (tryParseIpCidr(r.trim()) === undefined) errors.push(invalid(`spec.LoadBalancerSourceRanges[${String(i)}]`, r, 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'));
    }
  }
  if (spec.loadBalancerClass !== undefined && spec.type !== 'LoadBalancer') errors.push(notAllowed('spec.loadBalancerClass', "may only be used when `type` is 'LoadBalancer'"));
  if (spec.allocateLoadBalancerNodePorts !== undefined && spec.type !== 'LoadBalancer') errors.push(notAllowed('spec.allocateLoadBalancerNodePorts', "may only be used when `type` is 'LoadBalancer'"));
  errors.push(...oneOf('spec.trafficDistribution', spec.trafficDistribution, ['PreferClose', 'PreferSameNode', 'PreferSameZone']));
  return errors;
}

function validatePorts(spec: Spec): FieldError[] {
  const errors: FieldError[] = [];
  const ports = spec.ports ?? [];
  const names = new Set<string>();
  const numbers = new Set<string>();
  const nodePorts = new Set<string>();
  for (const [i, p] of ports.entries()) {
    const at = `spec.ports[${String(i)}]`;
    if ((p.name ?? '') === '') {
      if (ports.length > 1) errors.push(required(`${at}.name`));
    } else {
      errors.push(...dns1123LabelErrors(p.name!).map((e) => invalid(`${at}.name`, p.name, e)));
      if (names.has(p.name!)) errors.push(duplicate(`${at}.name`, p.name));
      names.add(p.name!);
    }
    errors.push(...portRange(`${at}.port`, p.port), ...oneOf(`${at}.protocol`, p.protocol, ['SCTP', 'TCP', 'UDP']));
    if (typeof p.targetPort === 'string') errors.push(...portNameErrors(p.targetPort).map((e) => invalid(`${at}.targetPort`, p.targetPort, e)));
    else if (p.targetPort !== undefined) errors.push(...portRange(`${at}.targetPort`, p.targetPort));
    if (isHeadless(spec) && p.targetPort !== undefined && p.targetPort !== p.port && (spec.selector === undefined)) {
      errors.push(invalid(`${at}.targetPort`, p.targetPort, 'must be equal to the value of \'port\' when clusterIP = None'));
    }
    const key = `${p.protocol ?? 'TCP'} ${String(p.port)}`;
    if (numbers.has(key)) errors.push(duplicate(at, { protocol: p.protocol, port: p.port }));
    numbers.add(key);
    if (p.nodePort !== undefined && p.nodePort !== 0) {
      if (!isOutside(spec)) errors.push(notAllowed(`${at}.nodePort`, `may not be used when \`type\` is '${spec.type ?? 'ClusterIP'}'`));
      const node = `${p.protocol ?? 'TCP'} ${String(p.nodePort)}`;
      if (nodePorts.has(node)) errors.push(duplicate(`${at}.nodePort`, p.nodePort));
      nodePorts.add(node);
    }
  }
  return errors;
}

/** Which families a Service asks for, and whether this cluster has them. */
function families(spec: Spec, ranges: ServiceRanges): FieldError[] {
  const errors: FieldError[] = [];
  const has = ranges.serviceCidrs.map((c) => (parseCidr(c).family === 4 ? 'IPv4' : 'IPv6'));
  errors.push(...oneOf('spec.ipFamilyPolicy', spec.ipFamilyPolicy, ['PreferDualStack', 'RequireDualStack', 'SingleStack']));
  const asked = spec.ipFamilies ?? [];
  const selectorless = isHeadless(spec) && Object.keys(spec.selector ?? {}).length === 0;
  for (const [i, f] of asked.entries()) {
    const at = `spec.ipFamilies[${String(i)}]`;
    if (!['IPv4', 'IPv6'].includes(f)) errors.push(unsupported(at, f, ['IPv4', 'IPv6']));
    else if (!has.includes(f as 'IPv4') && !selectorless) errors.push(invalid(at, f, 'not configured on this cluster'));
    if (asked.indexOf(f) !== i) errors.push(duplicate(at, f));
  }
  if (asked.length > 2) errors.push(invalid('spec.ipFamilies', asked, 'may only hold up to 2 values'));
  if (spec.ipFamilyPolicy === 'RequireDualStack' && has.length < 2 && !selectorless) {
    errors.push(invalid('spec.ipFamilyPolicy', spec.ipFamilyPolicy, 'this cluster is not configured for dual-stack services'));
  }
  const policy = spec.ipFamilyPolicy ?? 'SingleStack';
  if (policy === 'SingleStack' && (asked.length > 1 || (spec.clusterIPs ?? []).length > 1)) {
    errors.push(invalid('spec.ipFamilyPolicy', policy, `must be 'RequireDualStack' or 'PreferDualStack' when multiple '${asked.length > 1 ? 'ipFamilies' : 'clusterIPs'}' are specified`));
  }
  const ips = spec.clusterIPs?.length ? spec.clusterIPs : spec.clusterIP ? [spec.clusterIP] : [];
  if (ips.length > 2) errors.push(invalid('spec.clusterIPs', ips, 'may only hold up to 2 values'));
  for (const [i, ip] of ips.entries()) {
    const at = `spec.clusterIPs[${String(i)}]`;
    if (ip === 'None') {
      if (ips.length > 1) errors.push(invalid(at, ip, "must be only 'None' when headless"));
      continue;
    }
    if (ip === '') continue;
    if (isIP(ip) === 0) errors.push(invalid(at, ip, IP_MESSAGE));
    else if (asked[i] !== undefined && (isIP(ip) === 4 ? 'IPv4' : 'IPv6') !== asked[i]) errors.push(invalid(at, ip, `expected an ${asked[i]} value as indicated by \`ipFamilies[${String(i)}]\``));
  }
  if (ips.length === 2 && isIP(ips[0]!) === isIP(ips[1]!)) errors.push(invalid('spec.clusterIPs', ips, 'may specify no more than one IP for each IP family, i.e 192.168.0.1 and 2001:db8::1'));
  if ((spec.clusterIP ?? '') !== '' && spec.clusterIP !== ips[0]) errors.push(invalid('spec.clusterIPs', ips, 'first value must match `clusterIP`'));
  return errors;
}

function affinity(spec: Spec): FieldError[] {
  if (spec.sessionAffinity !== 'ClientIP') return [];
  const at = 'spec.sessionAffinityConfig.clientIP.timeoutSeconds';
  const seconds = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds;
  if (seconds === undefined) return [required(at)];
  return seconds > 0 && seconds <= 86_400 ? [] : [invalid(at, seconds, 'must be greater than 0 and less than 86400')];
}

/** Addresses that can be nobody's: a Service that took them would cut the node off from itself. */
function nonSpecial(at: string, ip: string): FieldError[] {
  if (ip === '0.0.0.0' || ip === '::') return [invalid(at, ip, 'may not be unspecified (0.0.0.0 or ::)')];
  if (ip.startsWith('127.') || ip === '::1') return [invalid(at, ip, 'may not be in the loopback range (127.0.0.0/8, ::1/128)')];
  if (ip.startsWith('169.254.') || /^fe[89ab]/i.test(ip)) return [invalid(at, ip, 'may not be in the link-local range (169.254.0.0/16, fe80::/10)')];
  if (/^2(2[4-9]|3\d)\./.test(ip) || /^ff/i.test(ip)) return [invalid(at, ip, 'may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)')];
  return [];
}

/** What was given stays where the new text leaves it out: `kubectl apply` and `replace` send none of it. */
export function prepareServiceUpdate(object: ApiObject, before: ApiObject): void {
  const now = object.spec as { -readonly [K in keyof Spec]: Spec[K] } | undefined;
  const old = specOf(before);
  if (now === undefined || now.type === 'ExternalName') {
    // What only other types have goes with the type.
    if (now && old.type !== 'ExternalName') for (const f of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy', 'internalTrafficPolicy', 'externalTrafficPolicy'] as const) if (same(now[f], old[f])) Reflect.deleteProperty(now, f);
    return;
  }
  const type = now.type ?? 'ClusterIP';
  const outside = type === 'NodePort' || type === 'LoadBalancer';
  if (old.type !== 'ExternalName') {
    if ((now.clusterIP ?? '') === '' && (now.clusterIPs ?? []).length === 0) {
      if (old.clusterIP !== undefined) now.clusterIP = old.clusterIP;
      if (old.clusterIPs !== undefined) now.clusterIPs = [...old.clusterIPs];
    } else if (now.clusterIP !== undefined && old.clusterIP !== now.clusterIP && same(now.clusterIPs, old.clusterIPs)) now.clusterIPs = [now.clusterIP];
    now.ipFamilyPolicy ??= old.ipFamilyPolicy as string;
    if (now.ipFamilyPolicy === undefined) Reflect.deleteProperty(now, 'ipFamilyPolicy');
    if (now.ipFamilies === undefined && old.ipFamilies !== undefined) now.ipFamilies = [...old.ipFamilies];
    // From two families to one: the second is given back.
    if (now.ipFamilyPolicy === 'SingleStack' && old.ipFamilyPolicy !== 'SingleStack') {
      if (same(now.ipFamilies, old.ipFamilies) && now.ipFamilies) now.ipFamilies = now.ipFamilies.slice(0, 1);
      if (same(now.clusterIPs, old.clusterIPs) && now.clusterIPs) now.clusterIPs = now.clusterIPs.slice(0, 1);
    }
  }
  for (const p of (now.ports ?? []) as { name?: string; port: number; protocol?: string; nodePort?: number }[]) {
    const was = old.ports?.find((o) => o.port === p.port && (o.protocol ?? 'TCP') === (p.protocol ?? 'TCP'));
    if (outside && (p.nodePort ?? 0) === 0 && was?.nodePort && (old.type === 'NodePort' || old.type === 'LoadBalancer')) p.nodePort = was.nodePort;
    if (!outside && p.nodePort !== undefined && p.nodePort === was?.nodePort) Reflect.deleteProperty(p, 'nodePort');
  }
  if (now.healthCheckNodePort === undefined && type === 'LoadBalancer' && now.externalTrafficPolicy === 'Local' && old.healthCheckNodePort) now.healthCheckNodePort = old.healthCheckNodePort;
  if (now.healthCheckNodePort === old.healthCheckNodePort && !(type === 'LoadBalancer' && now.externalTrafficPolicy === 'Local')) Reflect.deleteProperty(now, 'healthCheckNodePort');
  if (!outside && now.externalTrafficPolicy === old.externalTrafficPolicy && (now.externalIPs ?? []).length === 0) Reflect.deleteProperty(now, 'externalTrafficPolicy');
  if (type !== 'LoadBalancer' && now.allocateLoadBalancerNodePorts === old.allocateLoadBalancerNodePorts) Reflect.deleteProperty(now, 'allocateLoadBalancerNodePorts');
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

export function validateServiceUpdate(object: ApiObject, before: ApiObject): FieldError[] {
  const now = specOf(object);
  const old = specOf(before);
  const errors: FieldError[] = [];
  if (old.type !== 'ExternalName' && now.type !== 'ExternalName') {
    const [was, is] = [old.clusterIPs ?? [], now.clusterIPs ?? []];
    if (was[0] !== undefined && was[0] !== '' && is[0] !== was[0]) errors.push(invalid('spec.clusterIPs[0]', is[0] ?? '', 'may not change once set'));
    if (was[1] !== undefined && is[1] !== undefined && is[1] !== was[1]) errors.push(invalid('spec.clusterIPs[1]', is[1], 'may not change once set'));
    if (old.ipFamilies?.[0] !== undefined && now.ipFamilies?.[0] !== old.ipFamilies[0]) errors.push(invalid('spec.ipFamilies[0]', now.ipFamilies?.[0] ?? '', 'may not change once set'));
  }
  if (old.healthCheckNodePort && now.healthCheckNodePort && old.healthCheckNodePort !== now.healthCheckNodePort) errors.push(notAllowed('spec.healthCheckNodePort', 'field is immutable'));
  if (old.loadBalancerClass !== undefined && now.type === 'LoadBalancer' && old.type === 'LoadBalancer' && old.loadBalancerClass !== now.loadBalancerClass) {
    errors.push(invalid('spec.loadBalancerClass', now.loadBalancerClass ?? null, 'may not change once set'));
  }
  return errors;
}

export function validateServiceStatus(object: ApiObject): FieldError[] {
  const errors: FieldError[] = [];
  const ingress = ((object as unknown as Service).status?.loadBalancer?.ingress ?? []) as readonly { ip?: string; hostname?: string; ipMode?: string }[];
  if (ingress.length > 0 && specOf(object).type !== 'LoadBalancer') errors.push(notAllowed('status.loadBalancer.ingress', "may only be used when `spec.type` is 'LoadBalancer'"));
  for (const [i, one] of ingress.entries()) {
    const at = `status.loadBalancer.ingress[${String(i)}]`;
    if (one.ip !== undefined && one.ip !== '' && isIP(one.ip) === 0) errors.push(invalid(`${at}.ip`, one.ip, IP_MESSAGE));
    if (one.ipMode !== undefined && (one.ip ?? '') === '') errors.push(notAllowed(`${at}.ipMode`, 'may not be specified when `ip` is not set'));
    errors.push(...oneOf(`${at}.ipMode`, one.ipMode, ['Proxy', 'VIP']));
    if (one.hostname !== undefined && one.hostname !== '') errors.push(...dns1123SubdomainErrors(one.hostname).map((e) => invalid(`${at}.hostname`, one.hostname, e)));
  }
  return errors;
}

export function warningsOfService(object: ApiObject): string[] {
  const spec = specOf(object);
  return spec.externalIPs?.some((ip) => ip.includes('::ffff:')) === true ? ['spec.externalIPs: IPv4-mapped IPv6 addresses are not recommended'] : [];
}
