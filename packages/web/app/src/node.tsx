/** A node from inside: pods with their processes and devices, the veth pairs, the bridge, the VTEP, the uplink, the cable out. */
import { useId, useMemo, useState, type CSSProperties } from 'react';
import type { TopoDevice, Topology, TopoPod, TopoProcess } from '../../src/model/types.js';
import type { CounterStore } from './api.js';
import { Cable, DeviceBox, numerically, peersOf, shortPod } from './parts.js';
import { hrefOf, type Route } from './route.js';
import { useWords } from './words.js';

export function NodeView({ topology, counters, route }: { topology: Topology; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const nodes = useMemo(() => topology.namespaces.filter((n) => n.role === 'node').sort((a, b) => numerically(a.id, b.id)), [topology]);
  const peers = useMemo(() => peersOf(topology), [topology]);
  const node = nodes.find((n) => n.id === route.node) ?? nodes[0];
  if (!node) return <p className="empty">{t('nothing')}</p>;
  const devices = topology.devices.filter((d) => d.netns === node.id);
  const pods = topology.pods.filter((p) => p.node === node.id).sort((a, b) => numerically(a.id, b.id));
  const ofPods = new Set(pods.flatMap((p) => topology.devices.filter((d) => d.netns === p.id).flatMap((d) => peers.get(d.id)?.id ?? [])));
  const bridges = devices.filter((d) => d.role === 'bridge');
  const uplinks = devices.filter((d) => d.role === 'uplink');
  const rest = devices.filter((d) => !ofPods.has(d.id) && !bridges.includes(d) && !uplinks.includes(d));
  return (
    <section aria-labelledby="node-title" className="anatomy">
      <div className="title-row">
        <h1 id="node-title">{t('nodeTitle', node.id)}</h1>
        <label className="inline">{t('chooseNode')} <select value={node.id} onChange={(e) => (location.hash = hrefOf({ view: 'node', node: e.target.value }))}>{nodes.map((n) => <option key={n.id}>{n.id}</option>)}</select></label>
      </div>
      <p className="lead">{t('nodeLead')}</p>
      <div className="scroll" tabIndex={0} role="region" aria-label={t('nodeTitle', node.id)}>
        <div className="machine" style={{ '--columns': Math.max(1, pods.length) } as CSSProperties}>
          {pods.map((p, i) => <PodColumn key={p.id} pod={p} column={i + 1} topology={topology} peers={peers} counters={counters} route={route} />)}
          {pods.length === 0 && <p className="dim">{t('noPods')}</p>}
          <div className="netns host" data-netns={node.id} />
          <p className="netns-name host-name"><a href={hrefOf({ view: 'node', node: node.id, selected: { netns: node.id } })}>{t('hostNetns', node.id)}</a> <span className="mono small dim">{node.inode}</span> <span className={`small${node.forwards ? ' dim' : ' bad'}`}>{node.forwards ? t('forwarding') : t('notForwarding')}</span></p>
          <div className="bridge-bar">
            {bridges.map((b) => (
              <DeviceBox key={b.id} device={b} route={route} counters={counters} note={<span className="small dim">{t('portOf', b.name)}: {devices.filter((d) => d.master === b.name).map((d) => d.name).join(', ') || t('nothing')}</span>} />
            ))}
            {bridges.length === 0 && <p className="dim">{t('routed')}</p>}
          </div>
          <div className="devices host-devices">
            {uplinks.map((d) => <DeviceBox key={d.id} device={d} route={route} counters={counters} note={<span className="small dim">{d.purpose}</span>} />)}
            {rest.filter((d) => d.role !== 'loopback').map((d) => <DeviceBox key={d.id} device={d} route={route} counters={counters} note={<span className="small dim">{d.purpose}</span>} />)}
            {rest.filter((d) => d.role === 'loopback').map((d) => <DeviceBox key={d.id} device={d} route={route} counters={counters} />)}
          </div>
          <div className="way-out">
            {uplinks.flatMap((u) => {
              const port = peers.get(u.id);
              return port ? [<span key={u.id}><Cable id={u.id} counters={counters} label={t('cableTo', port.netns)} /><a href={hrefOf({ view: 'node', node: node.id, selected: { netns: port.netns, dev: port.name } })}>{t('toUnderlay', port.netns, `${port.name} #${port.index ?? '?'}`)}</a></span>] : [];
            })}
          </div>
        </div>
      </div>
      {bridges.length > 0 && <WhyBridge pods={pods.length} />}
    </section>
  );
}

function PodColumn({ pod, column, topology, peers, counters, route }: { pod: TopoPod; column: number; topology: Topology; peers: ReadonlyMap<string, TopoDevice>; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const own = topology.devices.filter((d) => d.netns === pod.id);
  const cables = own.filter((d) => d.role === 'pod');
  const ns = topology.namespaces.find((n) => n.id === pod.id);
  const pause = pod.pause;
  return (
    <>
      <article className="netns pod" style={{ gridColumn: column }} data-netns={pod.id} aria-label={`${t('role_pod')} ${pod.id}`}>
        <p className="netns-name"><a href={hrefOf({ view: 'node', node: pod.node, selected: { netns: pod.netns } })}>{shortPod(pod.id)}</a> <span className="dim small">{t('podNetns')}</span> <span className="mono small dim">{ns?.inode}</span></p>
        <ul className="processes">
          {pod.containers.map((c) => <Process key={c.name} process={c} kind="container" role={pause && c.namespaces['net'] !== undefined && c.namespaces['net'] !== pause.namespaces['net'] ? t('containerApart') : t('containerJoins')} />)}
          {pause && <Process process={pause} kind="pause" role={t('pauseHolds')} />}
        </ul>
        <div className="devices">
          {own.filter((d) => d.role !== 'pod').map((d) => <DeviceBox key={d.id} device={d} route={route} counters={counters} />)}
          {cables.map((d) => <DeviceBox key={d.id} device={d} route={route} counters={counters} />)}
        </div>
        {cables.length === 0 && <p className="small dim">{t('hostNetwork')}</p>}
      </article>
      <div className="pairs" style={{ gridColumn: column }}>
        {cables.map((d) => peers.has(d.id) && <span key={d.id} className="pair"><Cable id={d.id} counters={counters} label={t('vethPair')} /><span className="small dim">{t('vethPair')}</span></span>)}
      </div>
      <div className="host-ends" style={{ gridColumn: column }}>
        {cables.flatMap((d) => {
          const peer = peers.get(d.id);
          return peer ? [<span key={d.id}><DeviceBox device={peer} route={route} counters={counters} />{peer.master !== undefined && <span className="plug" aria-hidden="true" />}</span>] : [];
        })}
      </div>
    </>
  );
}

function Process({ process: p, kind, role }: { process: TopoProcess; kind: 'pause' | 'container'; role: string }) {
  const shared = ['net', 'ipc', 'uts'].flatMap((k) => (p.namespaces[k] ? [`${k} ${p.namespaces[k]}`] : []));
  const own = ['mnt', 'pid'].flatMap((k) => (p.namespaces[k] ? [`${k} ${p.namespaces[k]}`] : []));
  return (
    <li className={`process ${kind}`}>
      <b>{p.name}</b> {p.image && <span className="small">{p.image}</span>} <span className="dim small">{p.pid === undefined ? '' : `pid ${p.pid}`}</span>
      <span className="small dim">{role}</span>
      <details><summary className="small">ns</summary><span className="mono small">{[...shared, ...own].map((x) => <span key={x}>{x}</span>)}</span></details>
    </li>
  );
}

/** N pods: N(N−1)/2 cables between pairs, N ports of a bridge. */
function WhyBridge({ pods }: { pods: number }) {
  const { t } = useWords();
  const [n, setN] = useState(Math.max(3, pods));
  const id = useId();
  const pairwise = (n * (n - 1)) / 2;
  const at = (i: number): { x: number; y: number } => ({ x: 80 + 62 * Math.sin((2 * Math.PI * i) / n), y: 76 - 62 * Math.cos((2 * Math.PI * i) / n) });
  const all = Array.from({ length: n }, (_, i) => at(i));
  return (
    <section className="card why-bridge" aria-labelledby={`${id}t`}>
      <h2 id={`${id}t`}>{t('whyBridge')}</h2>
      <p>{t('whyBridgeText')}</p>
      <label htmlFor={id}>{t('whyBridgePods')}: <b>{n}</b></label>
      <input id={id} type="range" min="2" max="20" value={n} onChange={(e) => setN(Number(e.target.value))} />
      <div className="two">
        <figure>
          <svg viewBox="0 0 160 152" aria-hidden="true">
            {all.flatMap((p, i) => all.slice(i + 1).map((q, j) => <line key={`${i} ${j}`} x1={p.x} y1={p.y} x2={q.x} y2={q.y} />))}
            {all.map((p, i) => <circle key={i} cx={p.x} cy={p.y} r="6" />)}
          </svg>
          <figcaption data-cables={pairwise}>{t('cablesPairwise', pairwise)}</figcaption>
        </figure>
        <figure>
          <svg viewBox="0 0 160 152" aria-hidden="true">
            {all.map((p, i) => <line key={i} x1={p.x} y1={p.y} x2={80} y2={76} />)}
            <rect x="58" y="66" width="44" height="20" rx="4" />
            {all.map((p, i) => <circle key={i} cx={p.x} cy={p.y} r="6" />)}
          </svg>
          <figcaption data-ports={n}>{t('portsBridge', n)}</figcaption>
        </figure>
      </div>
    </section>
  );
}
