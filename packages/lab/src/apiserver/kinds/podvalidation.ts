/**
 * Refusals of pods, in kube-apiserver's words. What is checked is what a lab acts on: names,
 * containers, ports, env, volumes and mounts, policies, probes; and what may change later.
 * Source: k8s.io/kubernetes/pkg/apis/core/validation/validation.go.
 */
import { dns1123LabelErrors, dns1123SubdomainErrors, portNameErrors } from '@podway/kube';
import type { Pod } from '@podway/kube';
import { duplicate, invalid, notAllowed, required, unsupported, type FieldError } from '../errors.js';
import { clone, same, type ApiObject } from '../object.js';
import { podSpecOf } from './poddefaults.js';

type PodSpec = NonNullable<Pod['spec']>;
type Container = PodSpec['containers'][number];

const oneOf = (at: string, value: string | undefined, allowed: readonly string[]): FieldError[] =>
  value === undefined || allowed.includes(value) ? [] : [unsupported(at, value, allowed)];

export function validatePodSpec(spec: PodSpec, at: string): FieldError[] {
  const errors: FieldError[] = [];
  const containers = spec.containers ?? [];
  if (containers.length === 0) errors.push(required(`${at}.containers`));
  const volumes = new Set<string>();
  for (const [i, v] of (spec.volumes ?? []).entries()) {
    const where = `${at}.volumes[${String(i)}]`;
    if ((v.name ?? '') === '') errors.push(required(`${where}.name`));
    else errors.push(...dns1123LabelErrors(v.name).map((e) => invalid(`${where}.name`, v.name, e)));
    if (volumes.has(v.name)) errors.push(duplicate(`${where}.name`, v.name));
    volumes.add(v.name);
    const sources = Object.keys(v).filter((k) => k !== 'name');
    if (sources.length > 1) errors.push(notAllowed(`${where}.${sources[1] ?? ''}`, 'may not specify more than 1 volume type'));
    if (v.hostPath !== undefined && (v.hostPath.path ?? '') === '') errors.push(required(`${where}.hostPath.path`));
  }
  errors.push(...duplicateNames(`${at}.initContainers`, spec.initContainers ?? [], []), ...duplicateNames(`${at}.containers`, containers, (spec.initContainers ?? []).map((c) => c.name)));
  for (const [list, items] of [['initContainers', spec.initContainers ?? []], ['containers', containers]] as const) {
    for (const [i, c] of items.entries()) {
      const where = `${at}.${list}[${String(i)}]`;
      errors.push(...validateContainer(c, where, volumes));
      errors.push(...oneOf(`${where}.restartPolicy`, c.restartPolicy, ['Always']));
      if (list === 'containers' && c.restartPolicy !== undefined) errors.push(notAllowed(`${where}.restartPolicy`, 'may not be set for non-init containers'));
    }
  }
  errors.push(...hostPortConflicts(containers, `${at}.containers`));
  errors.push(...oneOf(`${at}.restartPolicy`, spec.restartPolicy, ['Always', 'OnFailure', 'Never']));
  errors.push(...oneOf(`${at}.dnsPolicy`, spec.dnsPolicy, ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None']));
  if (spec.dnsPolicy === 'None' && (spec.dnsConfig?.nameservers ?? []).length === 0) {
    errors.push(required(`${at}.dnsConfig.nameservers`, 'must provide at least one DNS nameserver when `dnsPolicy` is None'));
  }
  if ((spec.terminationGracePeriodSeconds ?? 0) < 0) errors.push(invalid(`${at}.terminationGracePeriodSeconds`, spec.terminationGracePeriodSeconds, 'must be greater than or equal to 0'));
  if (spec.activeDeadlineSeconds !== undefined && spec.activeDeadlineSeconds < 1) {
    errors.push(invalid(`${at}.activeDeadlineSeconds`, spec.activeDeadlineSeconds, 'must be between 1 and 2147483647, inclusive'));
  }
  for (const field of ['hostname', 'subdomain'] as const) {
    const value = spec[field];
    if (value !== undefined && value !== '') errors.push(...dns1123LabelErrors(value).map((e) => invalid(`${at}.${field}`, value, e)));
  }
  if (spec.nodeName !== undefined && spec.nodeName !== '') errors.push(...dns1123SubdomainErrors(spec.nodeName).map((e) => invalid(`${at}.nodeName`, spec.nodeName, e)));
  for (const [i, t] of (spec.tolerations ?? []).entries()) {
    const where = `${at}.tolerations[${String(i)}]`;
    errors.push(...oneOf(`${where}.operator`, t.operator === '' ? undefined : t.operator, ['Equal', 'Exists']));
    errors.push(...oneOf(`${where}.effect`, t.effect === '' ? undefined : t.effect, ['NoExecute', 'NoSchedule', 'PreferNoSchedule']));
    if (t.operator === 'Exists' && (t.value ?? '') !== '') errors.push(invalid(`${where}.operator`, t.operator, 'value must be empty when `operator` is \'Exists\''));
    if ((t.key ?? '') === '' && t.operator !== 'Exists') errors.push(invalid(`${where}.operator`, t.operator ?? '', 'operator must be Exists when `key` is empty, which means "match all values and all keys"'));
  }
  for (const [i, h] of (spec.hostAliases ?? []).entries()) {
    if ((h.ip ?? '') === '') errors.push(invalid(`${at}.hostAliases[${String(i)}].ip`, '', 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'));
  }
  return errors;
}

export function validateContainer(c: Pick<Container, 'name' | 'image'> & Partial<Container>, at: string, volumes: ReadonlySet<string>): FieldError[] {
  const errors: FieldError[] = [];
  if ((c.name ?? '') === '') errors.push(required(`${at}.name`));
  else errors.push(...dns1123LabelErrors(c.name).map((e) => invalid(`${at}.name`, c.name, e)));
  if ((c.image ?? '') === '') errors.push(required(`${at}.image`));
  else if (c.image !== c.image?.trim()) errors.push(invalid(`${at}.image`, c.image, 'must not have leading or trailing whitespace'));
  errors.push(...oneOf(`${at}.imagePullPolicy`, c.imagePullPolicy, ['Always', 'IfNotPresent', 'Never']));
  errors.push(...oneOf(`${at}.terminationMessagePolicy`, c.terminationMessagePolicy, ['FallbackToLogsOnError', 'File']));
  const portNames = new Set<string>();
  for (const [i, p] of (c.ports ?? []).entries()) {
    const where = `${at}.ports[${String(i)}]`;
    if (p.name !== undefined && p.name !== '') {
      errors.push(...portNameErrors(p.name).map((e) => invalid(`${where}.name`, p.name, e)));
      if (portNames.has(p.name)) errors.push(duplicate(`${where}.name`, p.name));
      portNames.add(p.name);
    }
    if (p.containerPort === undefined || p.containerPort === 0) errors.push(required(`${where}.containerPort`));
    else errors.push(...port(`${where}.containerPort`, p.containerPort));
    if (p.hostPort !== undefined && p.hostPort !== 0) errors.push(...port(`${where}.hostPort`, p.hostPort));
    errors.push(...oneOf(`${where}.protocol`, p.protocol, ['SCTP', 'TCP', 'UDP']));
  }
  for (const [i, e] of (c.env ?? []).entries()) {
    if ((e.name ?? '') === '') errors.push(required(`${at}.env[${String(i)}].name`));
    else if (e.name.includes('=')) errors.push(invalid(`${at}.env[${String(i)}].name`, e.name, "a valid environment variable name must consist only of printable ASCII characters other than '='"));
    if (e.valueFrom !== undefined && (e.value ?? '') !== '') errors.push(invalid(`${at}.env[${String(i)}].valueFrom`, '', 'may not be specified when `value` is not empty'));
  }
  const mounts = new Set<string>();
  for (const [i, m] of (c.volumeMounts ?? []).entries()) {
    const where = `${at}.volumeMounts[${String(i)}]`;
    if ((m.name ?? '') === '') errors.push(required(`${where}.name`));
    else if (!volumes.has(m.name)) errors.push({ field: `${where}.name`, type: 'notfound', value: m.name, detail: '' });
    if ((m.mountPath ?? '') === '') errors.push(required(`${where}.mountPath`));
    else if (mounts.has(m.mountPath)) errors.push(invalid(`${where}.mountPath`, m.mountPath, 'must be unique'));
    mounts.add(m.mountPath);
  }
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe'] as const) {
    const probe = c[name];
    if (probe === undefined) continue;
    const handlers = [probe.exec, probe.httpGet, probe.tcpSocket, probe.grpc].filter((h) => h !== undefined);
    if (handlers.length === 0) errors.push(required(`${at}.${name}`, 'must specify a handler type'));
    if (handlers.length > 1) errors.push(notAllowed(`${at}.${name}`, 'may not specify more than 1 handler type'));
    for (const field of ['initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold'] as const) {
      if ((probe[field] ?? 0) < 0) errors.push(invalid(`${at}.${name}.${field}`, probe[field], 'must be greater than or equal to 0'));
    }
    if (name !== 'readinessProbe' && (probe.successThreshold ?? 1) !== 1) errors.push(invalid(`${at}.${name}.successThreshold`, probe.successThreshold, 'must be 1'));
  }
  return errors;
}

/** Names are unique over all containers of a pod. */
export function duplicateNames(at: string, list: readonly { name: string }[], others: readonly string[]): FieldError[] {
  const names = new Set(others);
  return list.flatMap(({ name }, i) => {
    const errors = names.has(name) ? [duplicate(`${at}[${String(i)}].name`, name)] : [];
    names.add(name);
    return errors;
  });
}

const port = (at: string, value: number): FieldError[] =>
  value >= 1 && value <= 65535 ? [] : [invalid(at, value, 'must be between 1 and 65535, inclusive')];

function hostPortConflicts(containers: readonly Container[], at: string): FieldError[] {
  const seen = new Set<string>();
  const errors: FieldError[] = [];
  for (const [i, c] of containers.entries()) {
    for (const [j, p] of (c.ports ?? []).entries()) {
      if (p.hostPort === undefined || p.hostPort === 0) continue;
      const id = `${p.protocol ?? 'TCP'}/${p.hostIP ?? ''}/${String(p.hostPort)}`;
      if (seen.has(id)) errors.push(duplicate(`${at}[${String(i)}].ports[${String(j)}].hostPort`, id));
      seen.add(id);
    }
  }
  return errors;
}

const IMMUTABLE =
  'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';

export function validatePodUpdate(object: ApiObject, before: ApiObject): FieldError[] {
  const now = podSpecOf(object);
  const old = podSpecOf(before);
  const errors: FieldError[] = [];
  if (now.containers.length !== old.containers.length) {
    return [notAllowed('spec.containers', 'pod updates may not add or remove containers')];
  }
  if ((now.initContainers ?? []).length !== (old.initContainers ?? []).length) {
    return [notAllowed('spec.initContainers', 'pod updates may not add or remove containers')];
  }
  if (now.activeDeadlineSeconds === undefined && old.activeDeadlineSeconds !== undefined) {
    errors.push(invalid('spec.activeDeadlineSeconds', null, 'must not update from a positive integer to nil value'));
  }
  if (!(old.tolerations ?? []).every((t) => (now.tolerations ?? []).some((n) => same({ ...n, tolerationSeconds: 0 }, { ...t, tolerationSeconds: 0 })))) {
    errors.push(notAllowed('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds'));
  }
  // What may change is set back to what it was; then nothing may be left.
  const munged = clone(now);
  for (const list of ['containers', 'initContainers'] as const) {
    munged[list]?.forEach((c, i) => {
      const image = old[list]?.[i]?.image;
      if (image !== undefined) c.image = image;
    });
  }
  for (const field of ['activeDeadlineSeconds', 'tolerations'] as const) {
    Reflect.deleteProperty(munged, field);
    if (old[field] !== undefined) Object.assign(munged, { [field]: old[field] });
  }
  if (errors.length === 0 && !same(munged, old)) errors.push(notAllowed('spec', IMMUTABLE));
  return errors;
}
