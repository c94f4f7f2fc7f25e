/**
 * EndpointSlices (discovery.k8s.io/v1) and Endpoints (core/v1).
 * Source: k8s.io/kubernetes/pkg/apis/discovery/validation, pkg/printers/internalversion.
 */
import { isIP } from 'node:net';
import { EndpointSlices, EndpointsKind, dns1123LabelErrors, dns1123SubdomainErrors, type EndpointSlice, type Endpoints } from '@podway/kube';
import { since } from '../duration.js';
import { duplicate, invalid, required, unsupported, type FieldError } from '../errors.js';
import { AGE_COLUMN, NAME_COLUMN, column, type KindSpec } from './spec.js';

const IP_MESSAGE = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';
const MOST_SHOWN = 3;
const shown = (all: readonly string[]): string =>
  all.length === 0 ? '<unset>' : all.length <= MOST_SHOWN ? all.join(',') : `${all.slice(0, MOST_SHOWN).join(',')} + ${String(all.length - MOST_SHOWN)} more...`;

export const endpointSliceKind: KindSpec = {
  kind: EndpointSlices,
  schema: 'discovery/v1.EndpointSlice',
  categories: [],
  nameRule: 'subdomain',
  subresources: [],
  generation: true,
  columns: [
    NAME_COLUMN,
    column('AddressType', 0, 'string', 'The type of address carried by this EndpointSlice.'),
    column('Ports', 0, 'string', 'The list of network ports exposed by each endpoint in this slice.'),
    column('Endpoints', 0, 'string', 'The list of unique endpoints in this slice.'),
    AGE_COLUMN,
  ],
  cells(object, now) {
    const s = object as unknown as EndpointSlice;
    return [
      object.metadata.name, s.addressType, shown((s.ports ?? []).map((p) => (p.port === undefined ? '*' : String(p.port)))),
      shown(s.endpoints.flatMap((e) => e.addresses)), since(object.metadata.creationTimestamp, now),
    ];
  },
  defaults(object) {
    const s = object as unknown as { ports?: { name?: string; protocol?: string }[]; endpoints?: unknown[] };
    s.endpoints ??= [];
    for (const p of s.ports ?? []) {
      p.name ??= '';
      p.protocol ??= 'TCP';
    }
  },
  validate(object) {
    const s = object as unknown as EndpointSlice;
    const errors: FieldError[] = [];
    const types = ['FQDN', 'IPv4', 'IPv6'];
    if ((s.addressType ?? '') === '') errors.push(required('addressType'));
    else if (!types.includes(s.addressType)) errors.push(unsupported('addressType', s.addressType, types));
    if (s.endpoints.length > 1000) errors.push({ field: 'endpoints', type: 'toolong', detail: 'must have at most 1000 items' });
    for (const [i, e] of s.endpoints.entries()) {
      const at = `endpoints[${String(i)}]`;
      if ((e.addresses ?? []).length === 0) errors.push(required(`${at}.addresses`, 'must contain at least 1 address'));
      for (const [j, a] of (e.addresses ?? []).entries()) errors.push(...addressErrors(s.addressType, a, `${at}.addresses[${String(j)}]`));
      if (e.nodeName !== undefined) errors.push(...dns1123SubdomainErrors(e.nodeName).map((x) => invalid(`${at}.nodeName`, e.nodeName, x)));
      if (e.hostname !== undefined) errors.push(...dns1123LabelErrors(e.hostname).map((x) => invalid(`${at}.hostname`, e.hostname, x)));
    }
    const names = new Set<string>();
    for (const [i, p] of (s.ports ?? []).entries()) {
      const at = `ports[${String(i)}]`;
      if (names.has(p.name ?? '')) errors.push(duplicate(`${at}.name`, p.name ?? ''));
      names.add(p.name ?? '');
      if (p.port !== undefined && (p.port < 1 || p.port > 65535)) errors.push(invalid(`${at}.port`, p.port, 'must be between 1 and 65535, inclusive'));
      if (!['SCTP', 'TCP', 'UDP'].includes(p.protocol ?? 'TCP')) errors.push(unsupported(`${at}.protocol`, p.protocol, ['SCTP', 'TCP', 'UDP']));
    }
    return errors;
  },
  validateUpdate(object, before) {
    const [now, was] = [object['addressType'], before['addressType']];
    return now === was ? [] : [invalid('addressType', now, 'field is immutable')];
  },
};

function addressErrors(type: string, address: string, at: string): FieldError[] {
  if (type === 'FQDN') return dns1123SubdomainErrors(address).map((e) => invalid(at, address, e));
  if (isIP(address) === 0) return [invalid(at, address, IP_MESSAGE)];
  if ((isIP(address) === 4) !== (type === 'IPv4')) return [invalid(at, address, `must be an ${type} address`)];
  if (address.startsWith('127.') || address === '::1') return [invalid(at, address, 'may not be in the loopback range (127.0.0.0/8, ::1/128)')];
  if (address === '0.0.0.0' || address === '::') return [invalid(at, address, 'may not be unspecified (0.0.0.0 or ::)')];
  return [];
}

export const endpointsKind: KindSpec = {
  kind: EndpointsKind,
  schema: 'core/v1.Endpoints',
  categories: [],
  nameRule: 'subdomain',
  subresources: [],
  generation: false,
  columns: [NAME_COLUMN, column('Endpoints', 0, 'string', 'The list of endpoints of the service.'), AGE_COLUMN],
  cells(object, now) {
    const { subsets = [] } = object as unknown as Endpoints;
    const all = subsets.flatMap((s) => (s.ports?.length ? s.ports : [undefined]).flatMap((p) => (s.addresses ?? []).map((a) => (p ? `${a.ip.includes(':') ? `[${a.ip}]` : a.ip}:${String(p.port)}` : a.ip))));
    return [object.metadata.name, all.length === 0 ? '<none>' : shown(all), since(object.metadata.creationTimestamp, now)];
  },
  validate(object) {
    const errors: FieldError[] = [];
    for (const [i, s] of ((object as unknown as Endpoints).subsets ?? []).entries()) {
      const at = `subsets[${String(i)}]`;
      if ((s.addresses ?? []).length + (s.notReadyAddresses ?? []).length === 0) errors.push(required(at, 'must specify `addresses` or `notReadyAddresses`'));
      for (const list of ['addresses', 'notReadyAddresses'] as const) {
        for (const [j, a] of (s[list] ?? []).entries()) if (isIP(a.ip) === 0) errors.push(invalid(`${at}.${list}[${String(j)}].ip`, a.ip, IP_MESSAGE));
      }
      for (const [j, p] of (s.ports ?? []).entries()) {
        if (p.port < 1 || p.port > 65535) errors.push(invalid(`${at}.ports[${String(j)}].port`, p.port, 'must be between 1 and 65535, inclusive'));
      }
    }
    return errors;
  },
};
