/** Nodes. */
import { Nodes, parseCidr, type Node } from '@podway/kube';
import { since } from '../duration.js';
import { invalid, notAllowed, type FieldError } from '../errors.js';
import { same, type ApiObject } from '../object.js';
import { AGE_COLUMN, NAME_COLUMN, column, type KindSpec } from './spec.js';

const ROLE = 'node-role.kubernetes.io/';

function roles(labels: Record<string, string> | undefined): string {
  const found = new Set<string>();
  for (const [k, v] of Object.entries(labels ?? {})) {
    if (k.startsWith(ROLE) && k.length > ROLE.length) found.add(k.slice(ROLE.length));
    else if (k === 'kubernetes.io/role' && v !== '') found.add(v);
  }
  return found.size === 0 ? '<none>' : [...found].sort().join(',');
}

function readiness(node: Node): string {
  const ready = node.status?.conditions?.find((c) => c.type === 'Ready');
  const words = [ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady'];
  if (node.spec?.unschedulable === true) words.push('SchedulingDisabled');
  return words.join(',');
}

export const nodeKind: KindSpec = {
  kind: Nodes,
  schema: 'core/v1.Node',
  categories: [],
  nameRule: 'subdomain',
  subresources: ['status'],
  generation: false,
  columns: [
    NAME_COLUMN,
    column('Status', 0, 'string', 'The status of the node'),
    column('Roles', 0, 'string', 'The roles of the node'),
    AGE_COLUMN,
    column('Version', 0, 'string', 'Kubelet Version reported by the node.'),
    column('Internal-IP', 1, 'string', 'List of addresses reachable to the node.'),
    column('External-IP', 1, 'string', 'List of addresses reachable to the node.'),
    column('OS-Image', 1, 'string', 'OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).'),
    column('Kernel-Version', 1, 'string', "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64)."),
    column('Container-Runtime', 1, 'string', 'ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).'),
  ],
  cells(object, now) {
    const node = object as Node;
    const address = (type: string): string => node.status?.addresses?.find((a) => a.type === type)?.address ?? '<none>';
    const info = node.status?.nodeInfo;
    const known = (v: string | undefined): string => (v === undefined || v === '' ? '<unknown>' : v);
    return [
      object.metadata.name,
      readiness(node),
      roles(object.metadata.labels),
      since(object.metadata.creationTimestamp, now),
      info?.kubeletVersion ?? '',
      address('InternalIP'),
      address('ExternalIP'),
      known(info?.osImage),
      known(info?.kernelVersion),
      known(info?.containerRuntimeVersion),
    ];
  },
  defaults(object) {
    object.spec ??= {};
    object.status ??= {};
    const cidrs = podCidrs(object);
    if (cidrs.length > 0) object.spec = { ...object.spec, podCIDR: cidrs[0], podCIDRs: cidrs };
  },
  validate: (object) => podCidrs(object).flatMap((c, i) => cidrErrors(c, `spec.podCIDRs[${String(i)}]`)),
  validateUpdate(object, before) {
    const old = podCidrs(before);
    return old.length > 0 && !same(old, podCidrs(object)) ? [notAllowed('spec.podCIDRs', 'node updates may not change podCIDR except from "" to valid')] : [];
  },
  fields: (object) => ({ 'spec.unschedulable': String((object as Node).spec?.unschedulable ?? false) }),
};

function podCidrs(object: ApiObject): string[] {
  const { podCIDR, podCIDRs } = (object as Node).spec ?? {};
  if (podCIDRs !== undefined && podCIDRs.length > 0) return [...podCIDRs];
  return podCIDR === undefined || podCIDR === '' ? [] : [podCIDR];
}

function cidrErrors(cidr: string, at: string): FieldError[] {
  try {
    parseCidr(cidr);
    return [];
  } catch {
    return [invalid(at, cidr, 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)')];
  }
}
