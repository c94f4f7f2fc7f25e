/**
 * What was clicked: a device or a whole namespace, as the familiar tools print it, each field explained, and the way back from
 * it (the other end of the cable, the device of a route, the node behind an FDB entry).
 */
import { useEffect, useRef } from 'react';
import { explain } from '../../src/model/glossary.js';
import type { NamespaceView, Reference, ShownObject, TopoDevice, Topology } from '../../src/model/types.js';
import { fetchNamespace, useAnswer, useCounters, type CounterStore } from './api.js';
import { numerically, peersOf } from './parts.js';
import { hrefOf, type Route, type Selection } from './route.js';
import { bytesText, countText, useWords, type Translate } from './words.js';

interface Props {
  readonly topology: Topology;
  readonly counters: CounterStore;
  readonly route: Route;
  readonly selected: Selection;
  readonly onClose: () => void;
}

export function Details({ topology, counters, route, selected, onClose }: Props) {
  const { t } = useWords();
  const heading = useRef<HTMLHeadingElement>(null);
  const device = topology.devices.find((d) => d.netns === selected.netns && d.name === selected.dev);
  const ns = topology.namespaces.find((n) => n.id === selected.netns);
  const key = `${selected.netns} ${selected.dev ?? ''}`;
  const { data, error, again } = useAnswer(ns && `${key} ${device?.state ?? ''}`, (signal) => fetchNamespace(selected.netns, ns!.role, signal));
  useEffect(() => heading.current?.focus(), [key]);
  return (
    <aside className="details" aria-labelledby="details-title" onKeyDown={(e) => e.key === 'Escape' && onClose()}>
      <div className="title-row">
        <h2 id="details-title" ref={heading} tabIndex={-1}>{selected.dev ?? selected.netns}{selected.dev !== undefined && <span className="dim"> · {selected.netns}</span>}</h2>
        <button type="button" className="quiet" onClick={onClose} aria-label={t('close')}>×</button>
      </div>
      {device && <DeviceFacts device={device} topology={topology} counters={counters} route={route} />}
      {!device && ns && <NamespaceFacts id={ns.id} topology={topology} route={route} />}
      {error && <p className="bad" role="alert">{error.message}</p>}
      {data && <Sections view={data} dev={selected.dev} route={route} />}
      {data && <p className="small dim">{t('readAt', data.taken.replace('T', ' ').replace(/\..*$/, ''))} <button type="button" className="quiet" onClick={again}>{t('refresh')}</button></p>}
    </aside>
  );
}

/** What this device is and is not, in sentences with the ifindexes of both ends. */
export function sentenceOf(device: TopoDevice, topology: Topology, peer: TopoDevice | undefined, t: Translate): string | undefined {
  const index = (d: TopoDevice | undefined): string => String(d?.index ?? '?');
  if (device.orphan) return t('orphanIs');
  if (!peer) return undefined;
  const ns = topology.namespaces.find((n) => n.id === device.netns);
  if (ns?.role === 'pod') {
    const uplink = topology.devices.find((d) => d.netns === peer.netns && d.role === 'uplink');
    return uplink && t('sayPodEth0', device.name, index(device), peer.name, index(peer), peer.netns, uplink.name, index(uplink));
  }
  if (device.role === 'uplink') {
    const peers = peersOf(topology);
    const pods = topology.devices.filter((d) => d.role === 'pod' && d.name === device.name && peers.get(d.id)?.netns === device.netns).sort((a, b) => numerically(a.id, b.id));
    const shown = pods.slice(0, 6).map((d) => t('podEth0Short', d.name, index(d), d.netns, peers.get(d.id)!.name, index(peers.get(d.id))));
    return t('sayNodeEth0', device.name, device.netns, index(device), peer.name, index(peer), peer.netns, shown.join('; ') + (pods.length > 6 ? ' …' : '') || t('nothing'));
  }
  return device.role === 'veth' ? t('sayVeth', device.name, device.netns, index(device), peer.name, index(peer), peer.netns) : undefined;
}

function DeviceFacts({ device, topology, counters, route }: { device: TopoDevice; topology: Topology; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const peer = peersOf(topology).get(device.id);
  const total = useCounters(counters).total(device.id);
  const sentence = sentenceOf(device, topology, peer, t);
  const rows: [string, React.ReactNode][] = [
    [t('ifindex'), device.index ?? '?'],
    ...(peer ? [[t('otherEnd'), <a key="peer" href={linkTo(route, peer.netns, peer.name)}>{t('otherEndIs', peer.name, peer.index ?? '?', peer.netns)}</a>] as [string, React.ReactNode]] : []),
    [t('state'), device.state === 'up' ? t('stateUp') : device.state === 'down' ? t('stateDown') : t('stateNoCarrier')],
    [t('purpose'), device.purpose], ...(device.owner ? [[t('owner'), device.owner] as [string, string]] : []),
    ...(device.addresses.length ? [[t('addresses'), device.addresses.join(', ')] as [string, string]] : []),
    ...(device.mac ? [[t('mac'), device.mac] as [string, string]] : []), [t('mtu'), device.mtu ?? '?'],
    ...(total ? [[t('traffic'), t('trafficIs', countText(total.rx), bytesText(total.rxBytes), countText(total.tx), bytesText(total.txBytes), countText(total.dropped))] as [string, string]] : []),
  ];
  return (
    <>
      {sentence && <p className={device.orphan ? 'bad' : 'says'} data-says>{sentence}</p>}
      {device.unused && <p className="bad">{t('unused', device.unused)}</p>}
      <dl className="facts">{rows.map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}</dl>
    </>
  );
}

const linkTo = (route: Route, netns: string, dev?: string): string =>
  hrefOf({ view: route.view, node: route.node, path: route.path, selected: { netns, ...(dev === undefined ? {} : { dev }) } });

function NamespaceFacts({ id, topology, route }: { id: string; topology: Topology; route: Route }) {
  const { t } = useWords();
  const ns = topology.namespaces.find((n) => n.id === id)!;
  const pod = topology.pods.find((p) => p.netns === id && ns.role === 'pod');
  return (
    <>
      <dl className="facts">
        <div><dt>{t('namespace')}</dt><dd className="mono">{ns.inode}</dd></div>
        <div><dt>{t('addresses')}</dt><dd>{ns.addresses.join(', ') || t('nothing')}</dd></div>
        {ns.node && ns.role === 'pod' && <div><dt>{t('role_node')}</dt><dd><a href={hrefOf({ view: 'node', node: ns.node })}>{ns.node}</a></dd></div>}
        {pod && <div><dt>{t('processes')}</dt><dd>{[...(pod.pause ? [pod.pause] : []), ...pod.containers].map((p) => <span className="line" key={p.name}>{p.name} {p.image} <span className="dim">pid {p.pid ?? '?'}</span></span>)}</dd></div>}
        <div><dt>{t('devicesHere')}</dt><dd>{topology.devices.filter((d) => d.netns === id).map((d) => <a className="line" key={d.id} href={linkTo(route, id, d.name)}>{d.name} #{d.index ?? '?'}</a>)}</dd></div>
      </dl>
      <p className="small">{ns.role === 'node' || ns.role === 'router' ? (ns.forwards ? t('forwarding') : t('notForwarding')) : ''}</p>
    </>
  );
}

const placeOf = (r: Reference): string => (r.dev === undefined ? r.netns : `${r.netns} ${r.dev}${r.index === undefined ? '' : ` #${r.index}`}`);

/** Of a device what names it; of a namespace all. */
function Sections({ view, dev, route }: { view: NamespaceView; dev: string | undefined; route: Route }) {
  const shown = view.sections.map((s) => ({ ...s, objects: s.objects.filter((o) => dev === undefined || o.devices.includes(dev)) })).filter((s) => s.objects.length);
  return <>{shown.map((s) => (
    <section key={s.command} className="section">
      <h3 className="mono">{s.command}</h3>
      {s.objects.map((o, i) => <ObjectView key={`${i} ${o.text}`} object={o} route={route} />)}
    </section>
  ))}</>;
}

function ObjectView({ object, route }: { object: ShownObject; route: Route }) {
  const { t, language } = useWords();
  return (
    <div className="object" data-kind={object.kind}>
      <pre tabIndex={0}>{object.text}</pre>
      {object.refs.length > 0 && <p className="refs small"><span className="dim">{t('leadsTo')}: </span>{object.refs.map((r) => <a key={`${r.netns} ${r.dev ?? ''}`} href={linkTo(route, r.netns, r.dev)}>{t(`ref_${r.relation}`, placeOf(r))}</a>)}</p>}
      <details>
        <summary className="small">{t('fields')}</summary>
        <dl className="fields">{explain(object.kind, object.text).map((e, i) => <div key={`${i}`}><dt className="mono">{e.words}</dt><dd>{language === 'zh' ? e.zh : e.en}</dd></div>)}</dl>
      </details>
    </div>
  );
}
