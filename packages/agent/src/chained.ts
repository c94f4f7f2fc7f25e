/**
 * Podway behind another plugin in a configuration list: the interface is that plugin's and stays as it
 * is; what is added are host ports and bandwidth, for the addresses and the interface of the result that
 * is handed in (SPEC.md section 2, "prevResult"). That result is the answer, unchanged.
 */
import { CniError, type CniResult } from '@podway/cni';
import { RtNetlink, type Netns } from '@podway/kernel';
import type { AttachmentIp, AttachmentRecord, HostPort, Shaping } from './ipam/index.js';

export interface Behind {
  readonly ips: readonly AttachmentIp[];
  readonly mac: string;
  /** Empty when the interface is no veth: it can then have no shaping. */
  readonly hostIfname: string;
  readonly chained: NonNullable<AttachmentRecord['chained']>;
}

export interface ChainRequest {
  readonly ifname: string;
  readonly result: CniResult;
  readonly hostPorts: readonly HostPort[];
  readonly shaping: Shaping | undefined;
}

/** @throws CniError 7 when the result before is not of this interface, or what is asked cannot be had on it */
export function chainedTo(node: RtNetlink, pod: Netns, r: ChainRequest): Behind {
  const inside = RtNetlink.with(pod, (nl) => nl.link(r.ifname));
  if (!inside) {
    throw new CniError('INVALID_CONFIG', `there is no interface ${r.ifname} in the container`, {
      object: r.ifname, details: 'prevResult was given, so a plugin before this one must have made it', hint: 'Put the plugin that makes the interface first in the list.',
    });
  }
  const ips = (r.result.ips ?? []).filter((i) => i.interface === undefined || r.result.interfaces?.[i.interface]?.sandbox).map((i) => ({
    address: i.address, gateway: i.gateway ?? i.address.split('/')[0]!,
  }));
  if (r.hostPorts.length && ips.length === 0) {
    throw new CniError('INVALID_CONFIG', 'host ports are asked for, and the result of the plugin before has no address', { details: JSON.stringify(r.result) });
  }
  // A veth's peer index is counted in the other namespace: it is the host end if that one points back.
  const peer = inside.kind === 'veth' && inside.link !== undefined ? node.link(inside.link) : undefined;
  const host = peer?.kind === 'veth' && peer.link === inside.index ? peer : undefined;
  if (r.shaping && !host) {
    throw new CniError('INVALID_CONFIG', `bandwidth is asked for, and ${r.ifname} is no veth with its other end on the node`, {
      object: r.ifname, details: `it is of kind ${inside.kind ?? 'none'}`, hint: 'Bandwidth can be kept on a veth (plugins bridge and ptp).',
    });
  }
  const [first] = ips;
  const way = first && node.lookup({ dst: first.address.split('/')[0]! })?.index;
  const dev = (way === undefined ? undefined : node.link(way)?.name) ?? host?.name ?? '';
  return { ips, mac: inside.address ?? '', hostIfname: host?.name ?? '', chained: { dev } };
}
