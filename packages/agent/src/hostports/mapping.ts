/**
 * Host ports of attachments: what was asked for, in one form, and who has which. Pure.
 *
 * A mapping without a host IP (or with the unspecified address) is for every address of the node; one
 * with a host IP for that address only. Two collide when protocol and port agree and either is for every
 * address, or both are for the same one: the rule of kube-scheduler and of kubelet.
 */
import { CniError, formatIp, tryParseIp, type RuntimeConfig } from '@podway/cni';
import { holderName, type AttachmentKey, type AttachmentRecord, type HostPort } from '../ipam/index.js';

/** The word for "every address" of a family: the key that the map's second look-up has. */
export const ANY = { inet: '0.0.0.0', inet6: '::' } as const;

export const portWords = (p: HostPort): string => `${p.hostIp === undefined ? '' : `${p.hostIp.includes(':') ? `[${p.hostIp}]` : p.hostIp}:`}${p.hostPort}/${p.protocol}`;

const overlap = (a: HostPort, b: HostPort): boolean =>
  a.hostPort === b.hostPort && a.protocol === b.protocol && (everywhere(a) || everywhere(b) || a.hostIp === b.hostIp) && familiesMeet(a, b);
const everywhere = (p: HostPort): boolean => p.hostIp === undefined || p.hostIp === ANY.inet || p.hostIp === ANY.inet6;
/** `0.0.0.0` and `::` are for one family, no host IP is for both. */
const familiesMeet = (a: HostPort, b: HostPort): boolean => a.hostIp === undefined || b.hostIp === undefined || a.hostIp.includes(':') === b.hostIp.includes(':');

/**
 * The mappings of a request in one form, in the order given. Host port 0 asks for none.
 * @throws CniError 7 when two of them are for the same port
 */
export function hostPortsOf(asked: RuntimeConfig['portMappings']): HostPort[] {
  const ports: HostPort[] = [];
  for (const m of asked ?? []) {
    if (m.hostPort === 0) continue;
    const ip = m.hostIP === undefined || m.hostIP === '' ? undefined : tryParseIp(m.hostIP.split('/')[0] ?? '');
    const port: HostPort = {
      protocol: m.protocol, hostPort: m.hostPort, containerPort: m.containerPort, ...(ip ? { hostIp: formatIp(ip) } : {}),
    };
    const twin = ports.find((p) => overlap(p, port));
    // The same twice is once: a pod may name one port in two of its containers' lists.
    if (twin && twin.containerPort === port.containerPort && twin.hostIp === port.hostIp) continue;
    if (twin) {
      throw new CniError('INVALID_CONFIG', `host port ${portWords(port)} is mapped twice`, {
        details: `to container ports ${twin.containerPort} and ${port.containerPort}`, hint: 'Give each mapping of the pod a host port of its own.',
      });
    }
    ports.push(port);
  }
  return ports;
}

/** @throws CniError 105 naming who has a port that is wanted */
export function refuseTaken(wanted: readonly HostPort[], key: AttachmentKey, records: readonly AttachmentRecord[]): void {
  for (const port of wanted) {
    for (const r of records) {
      if (r.containerId === key.containerId && r.ifname === key.ifname) continue;
      const held = r.hostPorts?.find((p) => overlap(p, port));
      if (!held) continue;
      throw new CniError('PORT_TAKEN', `host port ${portWords(port)} is taken by ${holderName(r)}`, {
        object: portWords(port), details: `${holderName(r)} has ${portWords(held)} to its port ${held.containerPort} (container ${r.containerId.slice(0, 13)})`,
        hint: 'Take another host port, or delete that pod; a Service of type NodePort or a hostIP serves several.',
      });
    }
  }
}
