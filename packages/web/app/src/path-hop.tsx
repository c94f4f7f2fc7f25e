/** One hop: the packet as stacked headers to scale, what this hop changed of it, what decided, what was captured. */
import type { Header, PacketStack } from '../../src/model/packet.js';
import { deviceTitle } from '../../src/model/scene.js';
import type { Stop, Way, WayLeg } from '../../src/model/way.js';
import { useCounters, type CounterStore } from './api.js';
import { hrefOf, type Route } from './route.js';
import { countText, useWords } from './words.js';

/** A payload longer than this is drawn shorter, and that is said: otherwise no header could be seen. */
const MOST_PAYLOAD = 120;
const drawn = (h: Header): number => (h.kind === 'payload' ? Math.min(h.bytes, MOST_PAYLOAD) : h.bytes);

export function HopCards({ leg, stop, way, counters, route }: { leg: WayLeg; stop: Stop; way: Way; counters: CounterStore; route: Route }) {
  const widest = Math.max(...way.legs.flatMap((l) => l.stops.map((s) => s.packet.headers.reduce((n, h) => n + drawn(h), 0))));
  return (
    <div className="hop-cards">
      <PacketCard stop={stop} widest={widest} />
      <Decisions leg={leg} stop={stop} counters={counters} route={route} />
    </div>
  );
}

function PacketCard({ stop, widest }: { stop: Stop; widest: number }) {
  const { t } = useWords();
  const { packet } = stop;
  return (
    <section className="card packet" aria-labelledby="packet-title">
      <h2 id="packet-title">{t('packetHere')} <span className="dim small">{t('bytesOnWire', packet.bytes)}, {packet.source === 'captured' ? t('captured') : t('asPredicted')}</span></h2>
      <Bar packet={packet} widest={widest} />
      {packet.headers.some((h) => h.kind === 'payload' && h.bytes > MOST_PAYLOAD) && <p className="small dim">{t('notToScale')}</p>}
      {stop.mtu !== undefined && stop.mtuLeft !== undefined && <p className={`small${stop.mtuLeft < 0 ? ' bad' : ''}`}>{t(stop.mtuLeft < 0 ? 'mtuOver' : 'mtuLeft', stop.mtu, Math.abs(stop.mtuLeft))}</p>}
      <h3>{t('changedHere')}</h3>
      {packet.changes.length ? <ul className="changes">{packet.changes.map((c) => <li key={JSON.stringify(c)}>{c.kind === 'changed' ? `${c.header}: ${t(`field_${c.field}`)} ${c.before} → ${c.after}` : t(c.kind === 'added' ? 'headerAdded' : 'headerRemoved', c.header)}</li>)}</ul> : <p className="dim">{t('nothingChanged')}</p>}
      <div className="headers">
        {packet.headers.map((h) => (
          <div key={h.key} className={`header ${h.kind} ${h.state}`} data-header={h.key}>
            <b>{h.label}</b> <span className="dim small">{h.bytes} B</span>
            {h.fields.length > 0 && (
              <dl>{h.fields.map((f) => <div key={f.name} className={f.before === undefined ? '' : 'changed'}><dt>{t(`field_${f.name}`)}</dt><dd className="mono">{f.before !== undefined && <><s>{f.before}</s> → </>}{f.value}</dd></div>)}</dl>
            )}
          </div>
        ))}
      </div>
    </section>
  );
}

/** All hops have the same scale, so that what a tunnel adds can be seen. */
function Bar({ packet, widest }: { packet: PacketStack; widest: number }) {
  let x = 0;
  return (
    <svg className="bar" viewBox={`0 0 ${widest} 22`} preserveAspectRatio="none" role="img" aria-label={packet.headers.map((h) => `${h.label} ${h.bytes}`).join(', ')}>
      {packet.headers.map((h) => {
        const at = x;
        x += drawn(h);
        return <rect key={h.key} x={at} y="0" width={drawn(h)} height="22" className={`segment ${h.kind} ${h.state}${h.outer ? ' outer' : ''}`}><title>{`${h.label}: ${h.bytes}`}</title></rect>;
      })}
    </svg>
  );
}

function Decisions({ leg, stop, counters, route }: { leg: WayLeg; stop: Stop; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const total = useCounters(counters).total(stop.device);
  const { row } = stop;
  const last = leg.stops.filter((s) => !s.missed).at(-1) === stop;
  const decisions = [...row.decisions, ...(last && !leg.death ? leg.end : [])];
  return (
    <section className="card decisions" aria-labelledby="decided-title">
      <h2 id="decided-title">{t('decided')}</h2>
      {decisions.length === 0 && <p className="dim">{t('noDecision')}</p>}
      <dl className="decided">{decisions.map((d, i) => <div key={i}><dt>{d.kind}</dt><dd>{d.why}</dd></div>)}</dl>
      <h3>{t('capture')}</h3>
      {row.observed ? <><p className="small dim">{row.point.label}, {t('afterMicroseconds', row.observed.offsetUs.toFixed(1))}</p><pre tabIndex={0} className="wrap">{row.observed.summary}</pre></> : <p className="dim">{t('notCaptured')}</p>}
      {row.differences.map((d) => <p key={d} className="bad">{d}</p>)}
      <p className="small">
        {total && <span className="hop-counters">{t('received')} {countText(total.rx)} · {t('sent')} {countText(total.tx)} </span>}
        <a href={hrefOf({ view: 'path', path: route.path, selected: { netns: row.point.netns, dev: row.point.dev } })}>{t('openDevice', `${deviceTitle(stop)} · ${row.point.netns}`)}</a>
      </p>
    </section>
  );
}
