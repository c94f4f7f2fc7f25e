/**
 * Racks: subnets of the underlay, each a switch with a router of its own, and a core that joins the routers. Two racks may be
 * joined by a tunnel as well, as two sites by a VPN. What they are called and where what is; plain data.
 *
 *   node ── switch of rack r1 ── router-r1 ── core ── router-r2 ── switch of rack r2 ── node
 *
 * Links between routers take their addresses from 100.64.0.0/15 (shared address space, RFC 6598), which neither pods nor
 * nodes use; AS numbers are private ones (RFC 6996).
 */
import type { LabConfig, LabNode } from './config.js';

export const RACK_LABEL = 'podway.io/rack';
export const CORE_ASN = 65_000;
/** VXLAN between the two routers, over the core: IPv4 20, UDP 8, VXLAN 8, Ethernet 14. */
export const TUNNEL_OVERHEAD = 50;
export const CORE = { api: '100.64.0.1', links: '100.64', tunnels: '100.65', range: '100.64.0.0/15' } as const;

/** Two ends of a link between routers. */
export interface RouterLink {
  readonly near: string;
  readonly far: string;
  readonly prefix: number;
  readonly mtu: number;
}

export interface LabRack {
  readonly name: string;
  readonly subnet: string;
  readonly prefix: number;
  /** The router's address in the rack. */
  readonly gateway: string;
  readonly mtu: number;
  readonly switchMTU: number;
  /** To the core: `near` is the rack's router. */
  readonly link: RouterLink;
  /** Of the router, when it speaks BGP. */
  readonly asn: number | undefined;
}

/** `near` is the router of the first rack. */
export interface LabTunnel {
  readonly between: readonly [string, string];
  readonly link: RouterLink;
}

/** The subnet that a node's cable is plugged into. */
export interface Segment {
  readonly rack: LabRack | undefined;
  readonly subnet: string;
  readonly prefix: number;
  readonly gateway: string;
  readonly mtu: number;
  readonly switchMTU: number;
}

export function segments(underlay: LabConfig['underlay']): Segment[] {
  const { subnet, prefix, gateway, mtu: own, switchMTU } = underlay;
  return underlay.racks.length ? underlay.racks.map((rack) => ({ ...rack, rack })) : [{ rack: undefined, subnet, prefix, gateway, mtu: own, switchMTU }];
}

export const segmentOf = (c: Pick<LabConfig, 'underlay'>, node: Pick<LabNode, 'rack'>): Segment =>
  segments(c.underlay).find((s) => s.rack?.name === node.rack) ?? segments(c.underlay)[0]!;

/** The namespaces of the underlay, `name` as people call them and as the namespace's name ends. */
export interface UnderlayPart {
  readonly name: string;
  readonly role: 'router' | 'outside';
  readonly rack?: LabRack;
}

/** Of a flat underlay: its switch, which is the router as well. */
export const FLAT = 'underlay';
export const CORE_NAME = 'core';
export const routerName = (rack: string): string => `router-${rack}`;

export function underlayParts(underlay: { readonly racks?: readonly LabRack[] } | undefined): UnderlayPart[] {
  const racks = underlay?.racks ?? [];
  return [
    ...racks.map((rack): UnderlayPart => ({ name: routerName(rack.name), role: 'router', rack })),
    { name: racks.length ? CORE_NAME : FLAT, role: 'router' },
    { name: 'outside', role: 'outside' },
  ];
}

/** Where the API listens in the underlay. */
export const apiAddress = (c: Pick<LabConfig, 'underlay'>): string => (c.underlay.racks.length ? CORE.api : c.underlay.gateway);
/** The switch or router that leads to the outside, where the API is. */
export const coreName = (c: Pick<LabConfig, 'underlay'>): string => (c.underlay.racks.length ? CORE_NAME : FLAT);
export const coreAsn = (c: Pick<LabConfig, 'underlay'>): number | undefined => (c.underlay.racks.some((r) => r.asn !== undefined) ? CORE_ASN : undefined);

/** Routers that speak BGP, the core among them. */
export const speakingRouters = (c: Pick<LabConfig, 'underlay'>): string[] => {
  const racks = c.underlay.racks.filter((r) => r.asn !== undefined).map((r) => routerName(r.name));
  return racks.length ? [...racks, CORE_NAME] : [];
};
