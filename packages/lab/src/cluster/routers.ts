/**
 * The routers of racks as BGP speakers: BIRD in the namespace of each router that has an AS number, and in the core. A
 * router speaks with the core, with the routers at the other ends of its tunnels, and waits for the nodes of its rack, which
 * speak when their network's backend is bgp. What it learns it puts into its kernel and hands on.
 *
 * Each has a folder of its own below the lab's: configuration, control socket, log. They live in the lab's namespaces, and
 * `down` finds them there.
 */
import { join } from 'node:path';
import { birdDaemon, birdDaemonControl, birdPaths, parseNetworkConfig, routerSpeaker, Supervisor, timersOf, type BgpSettings, type DaemonEvent, type RouterInput } from '@podway/agent';
import { NETNS_DIR } from '@podway/kernel';
import { netConf, type LabConfig } from './config.js';
import type { LabLayout } from './layout.js';
import { CORE_NAME, coreAsn, routerName, type LabRack } from './racks.js';

export interface RoutersOptions {
  readonly layout: LabLayout;
  readonly emit: (router: string, e: DaemonEvent) => void;
}

/** Where the speaker of a router takes questions, on this machine. */
export const routerSocket = (layout: LabLayout, router: string): string => birdPaths(join(layout.routers, router)).socket;

export class Routers {
  private readonly supervisors = new Map<string, Supervisor>();

  constructor(private readonly o: RoutersOptions) {}

  /** Brings every speaker to the lab's shape of now. @param network the cluster's net-conf.json */
  async apply(config: LabConfig, network: string = netConf(config)): Promise<void> {
    await Promise.all(speakers(config, bgpOf(network)).map(async (router) => {
      const dir = join(this.o.layout.routers, router.name);
      const wrap = ['nsenter', `--net=${join(NETNS_DIR, this.o.layout.netns(router.name))}`, '--'];
      await this.supervisor(router.name, dir).apply([birdDaemon(routerSpeaker(router), { dir, wrap })]);
    }));
  }

  private supervisor(name: string, dir: string): Supervisor {
    const there = this.supervisors.get(name);
    if (there) return there;
    const made = new Supervisor({ dir, controls: { bird: birdDaemonControl }, emit: (e) => this.o.emit(name, e) });
    this.supervisors.set(name, made);
    return made;
  }

  /** Looks after them no more. They go on until `down`. */
  async close(): Promise<void> {
    await Promise.all([...this.supervisors.values()].map((s) => s.close()));
  }
}

/** What BGP would be in this network, whatever its backend is now. */
function bgpOf(network: string): BgpSettings {
  const raw = JSON.parse(network) as { Backend?: object };
  const { backend } = parseNetworkConfig(JSON.stringify({ ...raw, Backend: { ...raw.Backend, Type: 'bgp' } }));
  return backend as BgpSettings;
}

/** Every router that speaks, and with whom. Pure. */
export function speakers(config: LabConfig, bgp: BgpSettings): RouterInput[] {
  const core = coreAsn(config);
  if (core === undefined) return [];
  const racks = config.underlay.racks.filter((r): r is LabRack & { asn: number } => r.asn !== undefined);
  const common = { clusterCidrs: [config.network.clusterCIDR], timers: timersOf(bgp) };
  const routers = racks.map((rack): RouterInput => ({
    ...common, name: routerName(rack.name), asn: rack.asn, routerId: rack.link.near,
    neighbours: [
      { name: CORE_NAME, address: rack.link.far, asn: core },
      ...config.underlay.tunnels.flatMap((t) => {
        const i = t.between.indexOf(rack.name);
        const other = racks.find((r) => i >= 0 && r.name === t.between[1 - i]);
        return other ? [{ name: routerName(other.name), address: i === 0 ? t.link.far : t.link.near, asn: other.asn }] : [];
      }),
      ...config.nodes.filter((n) => n.rack === rack.name).map((n) => ({ name: `node ${n.name}`, address: n.address, asn: bgp.asn, passive: true, ...passwordFor(bgp, rack) })),
    ],
  }));
  return [...routers, {
    ...common, name: CORE_NAME, asn: core, routerId: racks[0]!.link.far,
    neighbours: racks.map((r) => ({ name: routerName(r.name), address: r.link.near, asn: r.asn })),
  }];
}

/** The nodes have been told it for this router. */
const passwordFor = (bgp: BgpSettings, rack: LabRack): { password?: string } => {
  const password = bgp.peers.find((p) => p.address === rack.gateway)?.password;
  return password === undefined ? {} : { password };
};
