/**
 * Host ports in nftables: the part of Podway's table that serves them. Pure.
 *
 *   map hostport4        { ipv4_addr . inet_proto . inet_service : ipv4_addr }       the pod's address, one element a mapping
 *   map hostport4_port   { ipv4_addr . inet_proto . inet_service : inet_service }    its port
 *   set hairpin4         { ipv4_addr, intervals }                                    ranges of pods on this node
 *   chain hostports   dnat by the map: the address asked for first, then any address
 *   chain prerouting, output    what is for an address of this node goes through `hostports`
 *   chain postrouting  what came through a host port from a pod of this node, or from 127.0.0.1, is masqueraded
 *   chain martians     127.0.0.0/8 from outside of the node is dropped
 *
 * The number of rules is the same for one mapping and for a thousand; the kernel looks into hashes.
 * Address and port stand in two maps because libnftables 1.0.6 (Debian 12) cannot declare a map to a
 * pair in its JSON language, and ends with a segmentation fault at a rule that uses one. Why masquerade: a pod on the same bridge would answer its neighbour directly, past
 * connection tracking, with an address the neighbour never asked; a pod that asks itself would see
 * its own address; and 127.0.0.1 means nothing outside the node. A client elsewhere is seen by the
 * pod with its own address.
 *
 * 127.0.0.1 reaches a pod because `route_localnet` is on for the devices that lead to pods, as the
 * reference plugin does it; `martians` keeps what that would open (CVE-2020-8558). IPv6 has no such
 * switch in the kernel: [::1]:PORT does not lead to a pod, an address of the node does.
 */
import { cidrContainsCidr, formatCidr, parseCidr, parseIpCidr } from '@podway/cni';
import { sysctlDevice } from '@podway/kernel';
import { NFT_TABLE, type NftObject } from '@podway/netstate';
import type { AttachmentRecord } from '../ipam/index.js';
import { familyOf } from '../node/addresses.js';
import { ANY } from './mapping.js';

/** Lets 127.0.0.1 be the source of what leaves by this device: for host ports asked for on it. */
export const routeLocalnet = (dev: string): string => `net.ipv4.conf.${sysctlDevice(dev)}.route_localnet`;

export type Family = 'inet' | 'inet6';
type Json = Readonly<Record<string, unknown>>;

const WORDS = {
  inet: { ip: 'ip', type: 'ipv4_addr', map: 'hostport4', port: 'hostport4_port', hairpin: 'hairpin4' },
  inet6: { ip: 'ip6', type: 'ipv6_addr', map: 'hostport6', port: 'hostport6_port', hairpin: 'hairpin6' },
} as const;
export const WHERE = { family: 'inet', table: NFT_TABLE } as const;
const DSTNAT = -100;
const RAW = -300;

/** Names of the maps and the set of a family. */
export const namesOf = (family: Family): { readonly map: string; readonly port: string; readonly hairpin: string } => WORDS[family];

/** One mapping: the key in both maps, and what each has for it. */
export interface Element {
  readonly key: Json;
  readonly address: string;
  readonly port: number;
}

export interface Elements {
  readonly family: Family;
  readonly elements: readonly Element[];
}

/** The elements that an attachment needs, by family; families without one are left out. */
export function elementsOf(r: Pick<AttachmentRecord, 'hostPorts' | 'ips'>, families: readonly Family[]): Elements[] {
  return families.flatMap((family): Elements[] => {
    const own = r.ips.find((i) => familyOf(i.address) === family)?.address.split('/')[0];
    if (own === undefined) return [];
    const elements = (r.hostPorts ?? [])
      .filter((p) => p.hostIp === undefined || familyOf(p.hostIp) === family)
      .map((p): Element => ({ key: { concat: [p.hostIp ?? ANY[family], p.protocol, p.hostPort] }, address: own, port: p.containerPort }));
    return elements.length ? [{ family, elements }] : [];
  });
}

/** The ranges whose members may be neighbours of one another: the node's own, and those of pods that another plugin has wired. */
export function hairpinRanges(podCidrs: readonly string[], records: readonly AttachmentRecord[], family: Family): string[] {
  const chained = records.filter((r) => r.chained && r.hostPorts?.length).flatMap((r) => r.ips.map((i) => formatCidr(parseIpCidr(i.address).cidr)));
  const all = [...new Set([...podCidrs, ...chained].filter((c) => familyOf(c) === family))].map(parseCidr);
  // An interval set takes no range that lies in another.
  return all.filter((a) => !all.some((b) => b !== a && cidrContainsCidr(b, a))).map(formatCidr);
}

export const prefixOf = (cidr: string): Json => {
  const [addr = '', len = '0'] = formatCidr(parseCidr(cidr)).split('/');
  return { prefix: { addr, len: Number(len) } };
};

/** As nftables lists it: a range of one address is that address. */
export const intervalOf = (cidr: string): unknown => {
  const [addr = '', len = ''] = formatCidr(parseCidr(cidr)).split('/');
  return len === (addr.includes(':') ? '128' : '32') ? addr : prefixOf(cidr);
};

export interface HostPortInputs {
  readonly families: readonly Family[];
  readonly podCidrs: readonly string[];
  readonly attachments: readonly AttachmentRecord[];
}

/** Maps, sets and chains besides `postrouting`, whose first rules are `hostPortMasquerade`. */
export function hostPortObjects(i: HostPortInputs): NftObject[] {
  const holders = i.attachments.filter((r) => r.phase !== 'deleting' && r.hostPorts?.length);
  const jump = (chain: string): NftObject => ({
    rule: { ...WHERE, chain, expr: [{ match: { op: '==', left: { fib: { result: 'type', flags: ['daddr'] } }, right: 'local' } }, { jump: { target: 'hostports' } }] },
  });
  return [
    ...i.families.flatMap((family): NftObject[] => {
      const w = WORDS[family];
      const keyType = [w.type, 'inet_proto', 'inet_service'];
      const elem = holders.flatMap((r) => elementsOf(r, [family]).flatMap((e) => e.elements));
      const ranges = hairpinRanges(i.podCidrs, holders, family).map(intervalOf);
      return [
        { map: { ...WHERE, name: w.map, type: keyType, map: w.type, ...(elem.length ? { elem: elem.map((e) => [e.key, e.address]) } : {}) } },
        { map: { ...WHERE, name: w.port, type: keyType, map: 'inet_service', ...(elem.length ? { elem: elem.map((e) => [e.key, e.port]) } : {}) } },
        { set: { ...WHERE, name: w.hairpin, type: w.type, flags: ['interval'], ...(ranges.length ? { elem: ranges } : {}) } },
      ];
    }),
    { chain: { ...WHERE, name: 'hostports' } },
    { chain: { ...WHERE, name: 'prerouting', type: 'nat', hook: 'prerouting', prio: DSTNAT, policy: 'accept' } },
    { chain: { ...WHERE, name: 'output', type: 'nat', hook: 'output', prio: DSTNAT, policy: 'accept' } },
    { chain: { ...WHERE, name: 'martians', type: 'filter', hook: 'prerouting', prio: RAW, policy: 'accept' } },
    ...i.families.flatMap((family): NftObject[] => {
      const daddr = { payload: { protocol: WORDS[family].ip, field: 'daddr' } };
      return [daddr, { '&': [daddr, ANY[family]] }].map((address): NftObject => {
        const found = (map: string): Json => ({ map: { key: { concat: [address, { meta: { key: 'l4proto' } }, { payload: { protocol: 'th', field: 'dport' } }] }, data: `@${map}` } });
        return { rule: { ...WHERE, chain: 'hostports', expr: [{ dnat: { family: WORDS[family].ip, addr: found(WORDS[family].map), port: found(WORDS[family].port) } }] } };
      });
    }),
    jump('prerouting'),
    jump('output'),
    { rule: { ...WHERE, chain: 'martians', comment: 'addresses of the node itself come from nobody else', expr: [
      { match: { op: '!=', left: { meta: { key: 'iifname' } }, right: 'lo' } },
      { match: { op: '==', left: { payload: { protocol: 'ip', field: 'daddr' } }, right: prefixOf('127.0.0.0/8') } }, { drop: null } ] } },
  ];
}

/** Rules of chain `postrouting`: before those that leave pod-to-pod traffic alone. */
export function hostPortMasquerade(families: readonly Family[]): NftObject[] {
  const translated = { match: { op: 'in', left: { ct: { key: 'status' } }, right: 'dnat' } };
  const end = (protocol: string, field: string, right: unknown): Json => ({ match: { op: '==', left: { payload: { protocol, field } }, right } });
  return families.flatMap((family): NftObject[] => {
    const { ip, hairpin } = WORDS[family];
    return [
      { rule: { ...WHERE, chain: 'postrouting', comment: 'a pod through a host port to a pod of its own node', expr: [
        end(ip, 'saddr', `@${hairpin}`), end(ip, 'daddr', `@${hairpin}`), translated, { masquerade: { flags: 'fully-random' } } ] } },
      ...(family === 'inet' ? [{ rule: { ...WHERE, chain: 'postrouting', comment: 'the node itself through a host port of 127.0.0.1', expr: [
        end(ip, 'saddr', prefixOf('127.0.0.0/8')), translated, { masquerade: { flags: 'fully-random' } } ] } }] : []),
    ];
  });
}
