/**
 * A pod's /etc/resolv.conf as the kubelet makes it of dnsPolicy and dnsConfig. Pure.
 *
 *   Default                   what the node has
 *   ClusterFirst              the cluster's DNS, its three search domains before the node's, ndots:5; with hostNetwork as Default
 *   ClusterFirstWithHostNet   the same, also with hostNetwork
 *   None                      dnsConfig alone
 *
 * dnsConfig is added to all of them: servers and domains behind, options in place of those of their name.
 * A kubelet without a cluster DNS address falls back from ClusterFirst to Default and says so.
 * Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/; limits of resolv.conf(5) as Kubernetes has them.
 */
import type { Pod } from '@podway/kube';
import type { ClusterDns } from './types.js';

const MOST_NAMESERVERS = 3;
const MOST_SEARCHES = 32;
const MOST_SEARCH_CHARACTERS = 2048;

export interface DnsWarning {
  readonly reason: 'MissingClusterDNS' | 'DNSConfigForming';
  readonly message: string;
}

interface Resolv {
  readonly nameservers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

/** Of several `search` or `domain` lines the last is in force, as in the resolver. */
export function parseResolvConf(text: string): Resolv {
  const nameservers: string[] = [];
  let searches: string[] = [];
  const options: string[] = [];
  for (const line of text.split('\n')) {
    const [key, ...values] = line.replace(/[#;].*$/, '').trim().split(/\s+/);
    if (key === 'nameserver' && values[0]) nameservers.push(values[0]);
    else if (key === 'search') searches = values;
    else if (key === 'domain') searches = values.slice(0, 1);
    else if (key === 'options') options.push(...values);
  }
  return { nameservers, searches, options };
}

const unique = (list: readonly string[]): string[] => [...new Set(list)];

/** @param nodeText the node's own file. */
export function resolvConf(pod: Pod, cluster: ClusterDns | undefined, nodeText: string): { readonly text: string; readonly warnings: readonly DnsWarning[] } {
  const policy = pod.spec?.dnsPolicy ?? 'ClusterFirst';
  const own = pod.spec?.dnsConfig;
  const wantsCluster = policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && !pod.spec?.hostNetwork);
  const warnings: DnsWarning[] = [];
  if (wantsCluster && !cluster) {
    const name = `${pod.metadata?.name}_${pod.metadata?.namespace}(${pod.metadata?.uid})`;
    warnings.push({
      reason: 'MissingClusterDNS',
      message: `pod: "${name}". kubelet does not have ClusterDNS IP configured and cannot create Pod using "${policy}" policy. Falling back to "Default" policy.`,
    });
  }
  const node = parseResolvConf(nodeText);
  const base = policy === 'None' ? { nameservers: [], searches: [], options: [] } : wantsCluster && cluster ? clusterFirst(pod, cluster, node) : node;
  // Nothing to add: the file itself, with its comments.
  if (base === node && !own) return { text: nodeText, warnings };
  const added = (own?.options ?? []).map((o) => (o.value === undefined || o.value === '' ? (o.name ?? '') : `${o.name}:${o.value}`));
  const nameOf = (option: string): string => option.split(':')[0] ?? '';
  const all: Resolv = {
    nameservers: unique([...base.nameservers, ...(own?.nameservers ?? [])]),
    searches: unique([...base.searches, ...(own?.searches ?? [])]),
    options: [...base.options.filter((o) => !added.some((a) => nameOf(a) === nameOf(o))), ...added],
  };
  const fits = limited(all, warnings);
  const text = [
    ...(fits.searches.length ? [`search ${fits.searches.join(' ')}`] : []),
    ...fits.nameservers.map((s) => `nameserver ${s}`),
    ...(fits.options.length ? [`options ${fits.options.join(' ')}`] : []), '',
  ].join('\n');
  return { text, warnings };
}

function clusterFirst(pod: Pod, cluster: ClusterDns, node: Resolv): Resolv {
  const { domain } = cluster;
  const namespace = pod.metadata?.namespace ?? 'default';
  return { nameservers: cluster.nameservers, searches: unique([`${namespace}.svc.${domain}`, `svc.${domain}`, domain, ...node.searches]), options: ['ndots:5'] };
}

function limited(all: Resolv, warnings: DnsWarning[]): Resolv {
  const nameservers = all.nameservers.slice(0, MOST_NAMESERVERS);
  if (nameservers.length < all.nameservers.length) {
    warnings.push({ reason: 'DNSConfigForming', message: `Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: ${nameservers.join(' ')}` });
  }
  let searches = all.searches.slice(0, MOST_SEARCHES);
  while (searches.join(' ').length > MOST_SEARCH_CHARACTERS) searches = searches.slice(0, -1);
  if (searches.length < all.searches.length) {
    warnings.push({ reason: 'DNSConfigForming', message: `Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ${searches.join(' ')}` });
  }
  return { ...all, nameservers, searches };
}
