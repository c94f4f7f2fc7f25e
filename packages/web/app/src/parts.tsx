/** Small parts that several views have in common. */
import type { ReactNode } from 'react';
import type { TopoDevice, Topology } from '../../src/model/types.js';
import { useCounters, type CounterStore } from './api.js';
import { hrefOf, type Route } from './route.js';
import { rateText, useWords } from './words.js';

/** A device as a box that leads to its state. */
export function DeviceBox({ device, route, counters, note }: { device: TopoDevice; route: Route; counters: CounterStore; note?: ReactNode }) {
  const { t } = useWords();
  const chosen = route.selected?.netns === device.netns && route.selected.dev === device.name;
  return (
    <a className={`device ${device.role}${device.state === 'up' ? '' : ' off'}${device.orphan ? ' orphan' : ''}`} aria-current={chosen ? 'true' : undefined} data-device={device.id}
      href={hrefOf({ view: route.view, node: route.node, path: route.path, selected: { netns: device.netns, dev: device.name } })}>
      <span className="device-head">
        <b>{device.name}{device.peerIndex === undefined ? '' : <span className="dim">@if{device.peerIndex}</span>}</b>
        {device.index !== undefined && <span className="dim">#{device.index}</span>}
        {device.orphan && <span className="tag bad">{t('orphan')}</span>}
        {device.state !== 'up' && <span className="tag">{device.state === 'down' ? t('stateDown') : t('stateNoCarrier')}</span>}
      </span>
      {device.addresses.map((a) => <span key={a} className="mono small">{a}</span>)}
      {note}
      <RateLine id={device.id} counters={counters} />
    </a>
  );
}

/** Packets a second, in and out. */
export function RateLine({ id, counters }: { id: string; counters: CounterStore }) {
  const { t } = useWords();
  const rate = useCounters(counters).rate(id);
  const busy = rate !== undefined && rate.rx + rate.tx > 0;
  return <span className={`rate small${busy ? ' busy' : ''}`} title={t('traffic')}>↓ {t('perSecond', rateText(rate?.rx ?? 0))} ↑ {t('perSecond', rateText(rate?.tx ?? 0))}</span>;
}

/** A cable: broken line while nothing passes, moving while something does. */
export function Cable({ id, counters, label }: { id: string; counters: CounterStore; label?: string }) {
  const rate = useCounters(counters).rate(id);
  const packets = (rate?.rx ?? 0) + (rate?.tx ?? 0);
  const speed = packets === 0 ? '' : packets < 10 ? ' slow' : packets < 1000 ? ' quick' : ' fast';
  return <span className={`cable${speed}`} role="img" aria-label={label ?? ''} title={label} />;
}

export const byId = (topology: Topology): Map<string, TopoDevice> => new Map(topology.devices.map((d) => [d.id, d]));

/** The device at the other end of each veth pair. */
export function peersOf(topology: Topology): Map<string, TopoDevice> {
  const devices = byId(topology);
  const peers = new Map<string, TopoDevice>();
  for (const l of topology.links) {
    const [a, b] = [devices.get(l.a), devices.get(l.b)];
    if (a && b) peers.set(l.a, b).set(l.b, a);
  }
  return peers;
}

export const shortPod = (id: string): string => id.replace(/^default\//, '');
export const numerically = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true });
