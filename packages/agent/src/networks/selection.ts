/**
 * Which further networks a pod asks for: the annotation `k8s.v1.cni.cncf.io/networks`, in both of its forms. Pure.
 *
 *   macvlan-conf, other-ns/vlan7@eth7
 *   [{"name":"macvlan-conf","namespace":"other-ns","interface":"eth7","ips":["192.168.1.9/24"],"mac":"02:00:00:00:00:09"}]
 *
 * Source: Network Plumbing Working Group, "Kubernetes Network Custom Resource Definition De-facto Standard", 1.3,
 * sections 4.1.2 and 5.
 */
import { CniError, describeIssues, tryParseIp, validateIfname } from '@podway/cni';
import { z } from 'zod';

export const NETWORKS_ANNOTATION = 'k8s.v1.cni.cncf.io/networks';

/** One further network of a pod. */
export interface NetworkSelection {
  readonly namespace: string;
  readonly name: string;
  /** Name of the interface in the pod. */
  readonly ifname: string;
  readonly ips: readonly string[];
  readonly mac?: string;
}

const label = z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, 'not the name of an object');
const elements = z.array(z.looseObject({
  name: label,
  namespace: label.optional(),
  interface: z.string().optional(),
  ips: z.array(z.string().refine((s) => tryParseIp(s.split('/')[0] ?? '') !== undefined, 'not an IP address')).nullish(),
  mac: z.string().regex(/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/, 'not a MAC address').optional(),
}));

/**
 * @param namespace of the pod, for networks that name none
 * @throws CniError 7 naming the annotation and what is wrong in it
 */
export function selectedNetworks(annotations: Readonly<Record<string, string>>, namespace: string): NetworkSelection[] {
  const text = (annotations[NETWORKS_ANNOTATION] ?? '').trim();
  if (text === '') return [];
  const asked = text.startsWith('[') ? longForm(text) : text.split(',').map((s) => shortForm(s.trim(), text));
  const selections = asked.map((a, i): NetworkSelection => ({
    namespace: a.namespace ?? namespace, name: a.name, ifname: interfaceName(a.interface ?? `net${i + 1}`, text), ips: a.ips ?? [],
    ...(a.mac === undefined ? {} : { mac: a.mac.toLowerCase() }),
  }));
  const twice = selections.find((s, i) => selections.findIndex((o) => o.ifname === s.ifname) !== i);
  if (twice) throw bad(`two networks ask for the interface ${twice.ifname}`, text);
  return selections;
}

type Asked = z.output<typeof elements>[number];

function longForm(text: string): Asked[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (e) {
    throw bad(`not JSON: ${(e as Error).message}`, text);
  }
  const read = elements.safeParse(json);
  if (!read.success) throw bad(describeIssues(read.error), text);
  return read.data;
}

/** `[NAMESPACE/]NAME[@INTERFACE]` */
function shortForm(word: string, text: string): Asked {
  const m = /^(?:([^/@\s]+)\/)?([^/@\s]+)(?:@([^/@\s]+))?$/.exec(word);
  const read = m && elements.safeParse([{ name: m[2], ...(m[1] === undefined ? {} : { namespace: m[1] }), ...(m[3] === undefined ? {} : { interface: m[3] }) }]);
  if (!read?.success) throw bad(`"${word}" is not of the form [NAMESPACE/]NAME[@INTERFACE]`, text);
  return read.data[0]!;
}

function interfaceName(name: string, text: string): string {
  try {
    return validateIfname(name);
  } catch (e) {
    throw bad(e instanceof CniError ? (e.details ?? e.msg).replace('CNI_IFNAME', 'interface') : String(e), text);
  }
}

const bad = (why: string, text: string): CniError =>
  new CniError('INVALID_CONFIG', `annotation ${NETWORKS_ANNOTATION} cannot be used`, {
    details: `${why}: ${text}`, hint: `Write it as "NAME", "NAMESPACE/NAME@INTERFACE" or [{"name":"NAME","interface":"net1"}].`,
  });
