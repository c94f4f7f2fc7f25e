/** All capture points of a way as a table: predicted beside observed. */
import type { Row } from '@podway/trace';
import type { Way } from '../../src/model/way.js';
import { useCounters, type CounterStore } from './api.js';
import { hrefOf, type Route } from './route.js';
import { countText, useWords } from './words.js';

const numbers = (p: { ttl: number; ipLength: number; frameLength: number } | undefined): string => (p ? `${p.ttl}, ${p.ipLength}, ${p.frameLength}` : '–');

export function PointsTable({ way, counters, route }: { way: Way; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const store = useCounters(counters);
  const row = (r: Row, number: number | string, direction: string, layer: string) => {
    const c = store.total(`${r.point.netns} ${r.point.dev}`);
    return (
      <tr key={`${direction} ${number} ${r.point.label}`} className={r.state.replace(' ', '-')} data-row={`${direction} ${number}`}>
        <td>{number}</td>
        <th scope="row"><a href={hrefOf({ view: 'path', path: route.path, selected: { netns: r.point.netns, dev: r.point.dev } })}>{r.point.label}</a>{r.point.index !== undefined && <span className="dim"> #{r.point.index}</span>}</th>
        <td>{layer}</td><td>{numbers(r.predicted)}</td><td>{numbers(r.observed)}</td>
        <td className="number">{r.observed ? r.observed.offsetUs.toFixed(1) : '–'}</td><td className="number">{r.observed?.ipId ?? '–'}</td>
        <td>{t(`state_${r.state.replace(' ', '') as 'seen'}`)}{r.differences.length > 0 && <span className="bad">: {r.differences.join(', ')}</span>}</td>
        <td className="number">{c ? `${countText(c.rx)} / ${countText(c.tx)}` : '–'}</td>
      </tr>
    );
  };
  return (
    <section className="card points" aria-labelledby="points-title">
      <h2 id="points-title">{t('points')}</h2>
      {way.legs.map((leg) => {
        const name = leg.direction === 'request' ? t('there') : t('back');
        return (
          <div className="scroll" key={leg.direction} tabIndex={0} role="region" aria-label={`${t('points')}: ${name}`}>
            <table>
              <caption>{name}</caption>
              <thead><tr>{(['hop', 'device', 'layer', 'predictedTtl', 'observedTtl', 'time', 'ipId', 'verdict', 'counters'] as const).map((h) => <th scope="col" key={h}>{t(h)}</th>)}</tr></thead>
              <tbody>
                {leg.stops.map((s) => row(s.row, s.number, leg.direction, t(`layer_${s.layer}`)))}
                {leg.strays.map((r, i) => row(r, `+${i + 1}`, leg.direction, ''))}
              </tbody>
            </table>
          </div>
        );
      })}
    </section>
  );
}
