/**
 * A container's environment and command line: pure functions of the pod.
 * Source: https://kubernetes.io/docs/tasks/inject-data-application/ (define-command-argument-container,
 * define-interdependent-environment-variables, environment-variable-expose-pod-information).
 */
import { PodwayError } from '@podway/errors';
import type { Pod } from '@podway/kube';
import type { ImageDefinition } from '../images/index.js';

export type Container = NonNullable<NonNullable<Pod['spec']>['containers']>[number];

/** What only the runtime knows while the container is about to start. */
export interface PodAddresses {
  readonly podIPs: readonly string[];
  readonly hostIPs: readonly string[];
}

/** `$(NAME)` becomes its value, `$$(NAME)` stays `$(NAME)`, an unknown name stays as written. */
export function expand(text: string, values: Readonly<Record<string, string>>): string {
  return text.replace(/\$\$|\$\(([^()]*)\)/g, (all, name: string | undefined) =>
    name === undefined ? '$' : Object.hasOwn(values, name) ? (values[name] ?? '') : all);
}

/** Errors: PodwayError FIELD_UNKNOWN, in the API server's words. */
export function fieldValue(pod: Pod, path: string, addresses: PodAddresses): string {
  const meta = pod.metadata ?? {};
  const sub = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (sub) return (sub[1] === 'labels' ? meta.labels : meta.annotations)?.[sub[2] ?? ''] ?? '';
  switch (path) {
    case 'metadata.name': return meta.name ?? '';
    case 'metadata.namespace': return meta.namespace ?? '';
    case 'metadata.uid': return meta.uid ?? '';
    case 'spec.nodeName': return pod.spec?.nodeName ?? '';
    case 'spec.serviceAccountName': return pod.spec?.serviceAccountName ?? 'default';
    case 'status.podIP': return addresses.podIPs[0] ?? '';
    case 'status.podIPs': return addresses.podIPs.join(',');
    case 'status.hostIP': return addresses.hostIPs[0] ?? '';
    case 'status.hostIPs': return addresses.hostIPs.join(',');
  }
  throw new PodwayError('FIELD_UNKNOWN', `unsupported fieldPath: ${path}`, { object: `pod ${meta.namespace}/${meta.name}` });
}

/** Errors: PodwayError FIELD_UNKNOWN, ENV_SOURCE_UNKNOWN. */
export function environment(pod: Pod, container: Container, image: ImageDefinition, addresses: PodAddresses): Record<string, string> {
  const env: Record<string, string> = { ...image.env, HOME: '/root', HOSTNAME: hostnameOf(pod), ...(container.tty ? { TERM: 'xterm' } : {}) };
  for (const [name, path] of Object.entries(image.downwardEnv ?? {})) env[name] = fieldValue(pod, path, addresses);
  for (const { name, value, valueFrom } of container.env ?? []) {
    if (valueFrom?.fieldRef) env[name] = fieldValue(pod, valueFrom.fieldRef.fieldPath, addresses);
    else if (valueFrom?.configMapKeyRef?.optional || valueFrom?.secretKeyRef?.optional) continue;
    else if (valueFrom) {
      throw new PodwayError('ENV_SOURCE_UNKNOWN', `environment variable ${name}: this lab reads values from fieldRef only`, {
        object: `pod ${pod.metadata?.namespace}/${pod.metadata?.name}`,
      });
    } else env[name] = expand(value ?? '', env);
  }
  return env;
}

/** command replaces the entrypoint and drops the image's arguments; args replace the latter only. */
export function commandLine(container: Container, image: ImageDefinition, env: Readonly<Record<string, string>>): string[] {
  const own = container.command?.length ? container.command : undefined;
  const args = container.args?.length ? container.args : own ? [] : image.cmd;
  return [...(own ?? image.entrypoint), ...args].map((w, i) =>
    // Words of the image are not expanded, as in the kubelet.
    (own && i < own.length) || container.args?.length ? expand(w, env) : w);
}

/** At most 63 bytes, as the kernel and DNS allow. */
export function hostnameOf(pod: Pod): string {
  return (pod.spec?.hostname ?? pod.metadata?.name ?? 'pod').slice(0, 63).replace(/[-.]+$/, '');
}

/** The kubelet's /etc/hosts. */
export function hostsFile(pod: Pod, podIPs: readonly string[], domain: string | undefined): string {
  const host = hostnameOf(pod);
  const sub = pod.spec?.subdomain;
  const names = sub ? `${host}.${sub}.${pod.metadata?.namespace ?? 'default'}.svc.${domain ?? 'cluster.local'}\t${host}` : host;
  const lines = [
    '# Kubernetes-managed hosts file.', '127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet', 'fe00::0\tip6-mcastprefix', 'fe00::1\tip6-allnodes', 'fe00::2\tip6-allrouters',
    ...podIPs.map((ip) => `${ip}\t${names}`),
  ];
  return `${lines.join('\n')}\n${aliasLines(pod)}`;
}

/** With hostNetwork: the node's own file, and the pod's aliases. */
export const hostNetworkHostsFile = (pod: Pod, nodeText: string): string =>
  `# Kubernetes-managed hosts file (host network).\n${nodeText}${nodeText === '' || nodeText.endsWith('\n') ? '' : '\n'}${aliasLines(pod)}`;

function aliasLines(pod: Pod): string {
  const aliases = (pod.spec?.hostAliases ?? []).map((a) => `${a.ip}\t${(a.hostnames ?? []).join('\t')}\n`);
  return aliases.length ? `\n# Entries added by HostAliases.\n${aliases.join('')}` : '';
}
