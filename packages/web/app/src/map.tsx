/** The whole network: the outside, routers and switches, racks of nodes, pods; live traffic on every cable. */
import { useMemo } from 'react';
import type { TopoDevice, Topology, TopoNamespace } from '../../src/model/types.js';
import type { CounterStore } from './api.js';
import { Cable, DeviceBox, numerically, peersOf, RateLine, shortPod } from './parts.js';
import { hrefOf, type Route } from './route.js';
import { useWords } from './words.js';

/** Nodes that hang on the same switch. */
interface Rack {
  readonly id: string;
  readonly netns: string;
  readonly bridge?: TopoDevice;
  /** Of its own, when there are several racks. */
  readonly router?: TopoNamespace;
  readonly nodes: readonly { readonly node: TopoNamespace; readonly uplink?: TopoDevice; readonly port?: TopoDevice }[];
}

interface Layout {
  /** Underlay namespaces by their distance from the outside. */
  readonly levels: readonly (readonly TopoNamespace[])[];
  readonly racks: readonly Rack[];
}

function layoutOf(t: Topology, peers: ReadonlyMap<string, TopoDevice>): Layout {
  const underlay = t.namespaces.filter((n) => n.role !== 'node' && n.role !== 'pod');
  const level = new Map<string, number>(underlay.filter((n) => n.role === 'outside').map((n) => [n.id, 0]));
  const start = level.size ? [...level.keys()] : underlay.slice(0, 1).map((n) => n.id);
  for (const id of start) level.set(id, 0);
  for (const queue = [...start]; queue.length; ) {
    const id = queue.shift()!;
    for (const d of t.devices.filter((x) => x.netns === id)) {
      const next = peers.get(d.id)?.netns;
      if (next === undefined || level.has(next) || !underlay.some((n) => n.id === next)) continue;
      level.set(next, level.get(id)! + 1);
      queue.push(next);
    }
  }
  const deepest = Math.max(0, ...level.values());
  const levels = Array.from({ length: deepest + 1 }, (_, i) => underlay.filter((n) => (level.get(n.id) ?? deepest) === i)).filter((l) => l.length);
  const racks = new Map<string, Rack & { nodes: Rack['nodes'][number][] }>();
  for (const node of t.namespaces.filter((n) => n.role === 'node').sort((a, b) => numerically(a.id, b.id))) {
    const uplink = t.devices.find((d) => d.netns === node.id && d.role === 'uplink' && peers.has(d.id));
    const port = uplink && peers.get(uplink.id);
    const id = port ? `${port.netns} ${port.master ?? port.name}` : 'none';
    const rack = racks.get(id) ?? { id, netns: port?.netns ?? '', ...bridgeOf(t, port), nodes: [] };
    rack.nodes.push({ node, ...(uplink ? { uplink } : {}), ...(port ? { port } : {}) });
    racks.set(id, rack);
  }
  // Of several racks each has its router with it.
  const own = new Set(racks.size > 1 ? [...racks.values()].map((r) => r.netns) : []);
  return { levels: levels.map((l) => l.filter((n) => !own.has(n.id))).filter((l) => l.length), racks: [...racks.values()].map((r) => ({ ...r, ...routerOf(underlay, own, r.netns) })) };
}

function routerOf(underlay: readonly TopoNamespace[], own: ReadonlySet<string>, netns: string): { router?: TopoNamespace } {
  const router = own.has(netns) ? underlay.find((n) => n.id === netns) : undefined;
  return router ? { router } : {};
}

function bridgeOf(t: Topology, port: TopoDevice | undefined): { bridge?: TopoDevice } {
  const bridge = port?.master === undefined ? undefined : t.devices.find((d) => d.netns === port.netns && d.name === port.master);
  return bridge ? { bridge } : {};
}

export function MapView({ topology, counters, route }: { topology: Topology; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const peers = useMemo(() => peersOf(topology), [topology]);
  const { levels, racks } = useMemo(() => layoutOf(topology, peers), [topology, peers]);
  return (
    <section aria-labelledby="map-title">
      <h1 id="map-title">{t('mapTitle', topology.source.name)}</h1>
      <p className="lead">{t('mapLead')} <span className="dim">{t('counts', topology.namespaces.filter((n) => n.role === 'node').length, topology.pods.length, topology.devices.length)}</span></p>
      <div className="map">
        {levels.map((level, i) => (
          <div className="level" key={level.map((n) => n.id).join(' ')}>
            {i > 0 && <span className="trunk" aria-hidden="true" />}
            {level.map((n) => <Underlay key={n.id} ns={n} topology={topology} peers={peers} counters={counters} route={route} />)}
          </div>
        ))}
        <div className="racks">
          {racks.map((r) => (
            <div className="rack" key={r.id}>
              {r.router && <Underlay ns={r.router} topology={topology} peers={peers} counters={counters} route={route} />}
              {r.router && <span className="trunk still" aria-hidden="true" />}
              {r.bridge && <DeviceBox device={r.bridge} route={route} counters={counters} note={<span className="small dim">{r.netns} · {t('role_switch')}</span>} />}
              <div className="nodes">
                {r.nodes.map(({ node, uplink, port }) => (
                  <div className="node-slot" key={node.id}>
                    {port && <Cable id={port.id} counters={counters} label={t('cableTo', node.id)} />}
                    {port && <span className="cable-note small">{port.master !== undefined && <span className="dim">{port.master}</span>} {port.name} ↔ {uplink?.name}<RateLine id={uplink!.id} counters={counters} /></span>}
                    <NodeCard node={node} topology={topology} peers={peers} counters={counters} route={route} />
                  </div>
                ))}
              </div>
            </div>
          ))}
        </div>
      </div>
    </section>
  );
}

function Underlay({ ns, topology, peers, counters, route }: { ns: TopoNamespace; topology: Topology; peers: ReadonlyMap<string, TopoDevice>; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  // Ports that lead to nodes are drawn with the nodes, the switch with its rack.
  const shown = topology.devices.filter((d) => d.netns === ns.id && d.role !== 'loopback' && d.kind !== 'bridge' && !topology.namespaces.some((n) => n.role === 'node' && n.id === peers.get(d.id)?.netns));
  return (
    <article className={`card underlay ${ns.role}`} aria-label={ns.id}>
      <h2><a href={hrefOf({ view: 'map', selected: { netns: ns.id } })}>{ns.id}</a> <span className="dim small">{ns.role === 'outside' ? t('outsideIs') : ns.role === 'switch' ? t('role_switch') : t('role_router')}</span></h2>
      <div className="devices">
        {shown.map((d) => <DeviceBox key={d.id} device={d} route={route} counters={counters} note={peers.get(d.id) && <span className="small dim">↔ {peers.get(d.id)!.netns} {peers.get(d.id)!.name}</span>} />)}
      </div>
    </article>
  );
}

function NodeCard({ node, topology, peers, counters, route }: { node: TopoNamespace; topology: Topology; peers: ReadonlyMap<string, TopoDevice>; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const devices = topology.devices.filter((d) => d.netns === node.id);
  const main = devices.filter((d) => ['uplink', 'vtep', 'tunnel', 'bridge', 'other'].includes(d.role));
  const orphans = devices.filter((d) => d.orphan);
  const pods = topology.pods.filter((p) => p.node === node.id).sort((a, b) => numerically(a.id, b.id));
  return (
    <article className="card node" aria-label={`${t('role_node')} ${node.id}`}>
      <h2><a href={hrefOf({ view: 'node', node: node.id })} aria-label={t('openNode', node.id)}>{node.id}</a> <span className="mono small dim">{node.addresses.join(', ')}</span></h2>
      <p className="small dim">{node.podCIDRs.map((c) => t('podRange', c)).join(', ')}</p>
      <div className="devices">
        {main.map((d) => <DeviceBox key={d.id} device={d} route={route} counters={counters} />)}
        {orphans.map((d) => <DeviceBox key={d.id} device={d} route={route} counters={counters} />)}
      </div>
      <h3>{t('pods')}</h3>
      <ul className="pods">
        {pods.length === 0 && <li className="dim small">{t('noPods')}</li>}
        {pods.map((p) => {
          const eth0 = topology.devices.find((d) => d.netns === p.netns && d.role === 'pod');
          return (
            <li key={p.id}>
              <a className="pod-chip" href={hrefOf({ view: 'map', selected: { netns: p.netns } })} aria-current={route.selected?.netns === p.netns && !route.selected.dev ? 'true' : undefined}>
                <b>{shortPod(p.id)}</b> <span className="mono small">{p.ips.join(', ')}</span>
                {eth0 ? <RateLine id={eth0.id} counters={counters} /> : <span className="small dim">{t('hostNetwork')}</span>}
                {eth0 && peers.get(eth0.id) && <span className="small dim">↔ {peers.get(eth0.id)!.name}</span>}
              </a>
            </li>
          );
        })}
      </ul>
    </article>
  );
}
