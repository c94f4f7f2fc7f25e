/** What a lab file says of racks and tunnels: the schema, what is filled in, and what cannot be. Pure. */
import { cidrContains, cidrNth, cidrOverlaps, formatCidr, formatIp, parseCidr, type Cidr } from '@podway/cni';
import { z } from 'zod';
import { CORE, CORE_ASN, TUNNEL_OVERHEAD, type LabRack, type LabTunnel } from './racks.js';
import { cidr, dnsLabel, mtu } from './terms.js';
import type { Path } from './yaml-text.js';

const asn = z.number().int().min(1).max(4_294_967_294);

export const rackSchema = z.strictObject({
  name: dnsLabel.max(8, 'must have at most 8 characters, so that device names can carry it'),
  subnet: cidr.optional(),
  /** Of the nodes' uplinks, the switch and the router's side of it. */
  mtu: mtu.optional(),
  /** What the switch really passes; larger frames vanish in it without a word. */
  switchMTU: mtu.optional(),
  /** The cable between this rack's router and the core. */
  link: z.strictObject({ mtu: mtu.optional() }).prefault({}),
  /** The router speaks BGP with the core and with the nodes of its rack. */
  bgp: z.boolean().optional(),
  asn: asn.optional(),
});

export const tunnelSchema = z.strictObject({
  between: z.tuple([dnsLabel, dnsLabel]),
  mtu: mtu.optional(),
});

export interface RackFile {
  readonly subnet: string;
  readonly mtu: number;
  readonly racks?: readonly z.output<typeof rackSchema>[] | undefined;
  readonly tunnels?: readonly z.output<typeof tunnelSchema>[] | undefined;
}

type Report = (path: Path, message: string) => void;

/** Fills in what the file leaves open. */
export function completeRacks(file: RackFile, cluster: Cidr, report: Report): { racks: LabRack[]; tunnels: LabTunnel[] } {
  const whole = parseCidr(file.subnet);
  const racks = (file.racks ?? []).map((r, i): LabRack => {
    const at = (...keys: string[]): Path => ['underlay', 'racks', i, ...keys];
    const subnet = r.subnet === undefined ? share(whole, i) : parseCidr(r.subnet);
    if (!subnet) report(at(), `the underlay ${formatCidr(whole)} has no range for it; give it a subnet of its own`);
    const range = subnet ?? whole;
    if (range.family !== 4) report(at('subnet'), 'must be an IPv4 range');
    else if (range.prefix > 30) report(at('subnet'), `has no room for a router and a node; at most /30`);
    if (range.family === cluster.family && cidrOverlaps(range, cluster)) report(at('subnet'), `overlaps with the cluster's range ${formatCidr(cluster)}`);
    if (range.family === 4 && cidrOverlaps(range, parseCidr(CORE.range))) report(at('subnet'), `overlaps with ${CORE.range}, which the links between routers use`);
    if (file.racks!.findIndex((o) => o.name === r.name) !== i) report(at('name'), `"${r.name}" is there twice`);
    if (r.bgp === false && r.asn !== undefined) report(at('bgp'), 'is false, and an AS number is given; leave out one of them');
    const own = r.mtu ?? file.mtu;
    return {
      name: r.name, subnet: formatCidr(range), prefix: range.prefix, gateway: formatIp(cidrNth(range, 1)), mtu: own, switchMTU: r.switchMTU ?? own,
      link: { near: `${CORE.links}.${i + 1}.2`, far: `${CORE.links}.${i + 1}.1`, prefix: 30, mtu: r.link.mtu ?? Math.max(own, file.mtu) },
      asn: r.asn ?? (r.bgp ? CORE_ASN + i + 1 : undefined),
    };
  });
  for (const [i, r] of racks.entries()) {
    const clash = racks.find((o, j) => j < i && o.subnet !== file.subnet && cidrOverlaps(parseCidr(o.subnet), parseCidr(r.subnet)));
    if (clash) report(['underlay', 'racks', i, 'subnet'], `${r.subnet} overlaps with ${clash.subnet} of rack ${clash.name}`);
  }
  return { racks, tunnels: completeTunnels(file, racks, report) };
}

function completeTunnels(file: RackFile, racks: readonly LabRack[], report: Report): LabTunnel[] {
  return (file.tunnels ?? []).flatMap((t, i): LabTunnel[] => {
    const at = ['underlay', 'tunnels', i];
    const ends = t.between.map((name, j) => {
      const rack = racks.find((r) => r.name === name);
      if (!rack) report([...at, 'between', j], `there is no rack ${name}; racks: ${racks.map((r) => r.name).join(', ') || 'none'}`);
      return rack;
    });
    const [a, b] = ends;
    if (!a || !b) return [];
    if (a === b) report([...at, 'between'], 'joins a rack with itself');
    const most = Math.min(a.link.mtu, b.link.mtu) - TUNNEL_OVERHEAD;
    if (t.mtu !== undefined && t.mtu > most) report([...at, 'mtu'], `${t.mtu} does not fit: the smaller of the two cables has ${most + TUNNEL_OVERHEAD}, the tunnel's headers take ${TUNNEL_OVERHEAD}, ${most} are left`);
    return [{ between: [a.name, b.name], link: { near: `${CORE.tunnels}.${i + 1}.1`, far: `${CORE.tunnels}.${i + 1}.2`, prefix: 30, mtu: t.mtu ?? most } }];
  });
}

/** The n-th /24 of the underlay, from 1; undefined when there is none. */
function share(whole: Cidr, i: number): Cidr | undefined {
  if (whole.family !== 4 || whole.prefix > 23) return undefined;
  const base = whole.base + (BigInt(i + 1) << 8n);
  return cidrContains(whole, { family: 4, value: base }) ? parseCidr(`${formatIp({ family: 4, value: base })}/24`) : undefined;
}
