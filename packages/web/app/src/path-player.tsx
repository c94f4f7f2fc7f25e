/** The drawing of a way with the packet on it: play, pause, step; below it the packet at this hop, and what decided. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react';
import { along, drawLeg, type Drawing } from '../../src/model/drawing.js';
import { deviceTitle, sceneOf, type Primitive, type SceneWords } from '../../src/model/scene.js';
import type { Way, WayLeg } from '../../src/model/way.js';
import { useCounters, type CounterStore } from './api.js';
import { HopCards } from './path-hop.js';
import type { Route } from './route.js';
import { useWords, type Translate } from './words.js';

export const sceneWords = (t: Translate): SceneWords => ({
  layers: { app: t('layer_app'), pod: t('layer_pod'), node: t('layer_node'), physical: t('layer_physical') },
  received: t('received'), sent: t('sent'), sends: t('sends'), receives: t('receives'),
  died: { dropped: t('died_dropped'), lost: t('died_lost'), unknown: t('died_unknown') },
});

/** Links as wires know them: all pairs of devices that follow each other through a cable. */
export function pairsOf(leg: WayLeg): Set<string> {
  const pairs = new Set<string>();
  leg.stops.forEach((s, i) => {
    const next = leg.stops[i + 1];
    // Out of one namespace and into another: only a cable leads there.
    if (next && next.where !== s.where) pairs.add(`${s.device} ↔ ${next.device}`);
  });
  return pairs;
}

const HOP_MS = 700;
const MOVE_MS = 400;
const still = (): boolean => matchMedia('(prefers-reduced-motion: reduce)').matches;

/** All hops of both ways, one after the other. */
interface Position {
  readonly leg: number;
  readonly stop: number;
}

export function Player({ way, counters, route }: { way: Way; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const positions = useMemo(() => way.legs.flatMap((leg, l): Position[] => leg.stops.filter((s) => !s.missed).map((_, i) => ({ leg: l, stop: i }))), [way]);
  const [at, setAt] = useState(0);
  const [playing, setPlaying] = useState(false);
  const here = positions[Math.min(at, positions.length - 1)];
  const leg = way.legs[here?.leg ?? 0]!;
  const stop = here && leg.stops[here.stop];

  useEffect(() => {
    if (!playing) return undefined;
    if (at >= positions.length - 1) {
      setPlaying(false);
      return undefined;
    }
    const timer = setTimeout(() => setAt(at + 1), HOP_MS);
    return () => clearTimeout(timer);
  }, [playing, at, positions.length]);

  const go = (n: number): void => {
    setPlaying(false);
    setAt(Math.max(0, Math.min(positions.length - 1, n)));
  };
  const choose = (legNumber: number, stopNumber: number): void => {
    const n = positions.findIndex((p) => p.leg === legNumber && p.stop === stopNumber - 1);
    if (n >= 0) go(n);
  };
  const legName = leg.direction === 'request' ? t('there') : t('back');
  const text = stop ? t('positionText', legName, stop.number, leg.stops.length, deviceTitle(stop), stop.row.point.netns) : '';
  const dies = leg.death && (!stop || stop.number === Math.min(leg.death.after, leg.stops.length));
  return (
    <section className="player" aria-label={t('drawingOf')}>
      <div className="legs" role="group" aria-label={t('direction')}>
        {way.legs.map((l, i) => <button key={l.direction} type="button" aria-pressed={leg === l} onClick={() => choose(i, 1)}>{l.direction === 'request' ? t('there') : t('back')}</button>)}
      </div>
      <Picture leg={leg} current={stop?.number ?? 0} playing={playing} counters={counters} onChoose={(n) => choose(here?.leg ?? 0, n)} />
      <div className="controls" onKeyDown={(e) => {
        if (e.target instanceof HTMLInputElement) return; // the slider has its own keys
        if (e.key === 'ArrowRight') go(at + 1);
        if (e.key === 'ArrowLeft') go(at - 1);
      }}>
        <button type="button" onClick={() => go(0)} aria-label={t('first')}><Icon d="M4 3h3v14H4zM17 3v14L8 10z" /></button>
        <button type="button" onClick={() => go(at - 1)} aria-label={t('previous')} disabled={at === 0}><Icon d="M15 3v14L5 10z" /></button>
        <button type="button" className="primary" onClick={() => (at >= positions.length - 1 && !playing ? (setAt(0), setPlaying(true)) : setPlaying(!playing))}>{playing ? <><Icon d="M5 3h4v14H5zM12 3h4v14h-4z" />{t('pause')}</> : <><Icon d="M5 3v14l11-7z" />{t('play')}</>}</button>
        <button type="button" onClick={() => go(at + 1)} aria-label={t('next')} disabled={at >= positions.length - 1}><Icon d="M5 3v14l8-7zM14 3h2.5v14H14z" /></button>
        <input type="range" min="1" max={Math.max(1, positions.length)} value={at + 1} aria-label={t('position')} aria-valuetext={text} onChange={(e) => go(Number(e.target.value) - 1)} />
        <span className="position" data-position={stop ? `${leg.direction} ${stop.number}` : ''}>{text}</span>
      </div>
      <p className="visually-hidden" aria-live="polite">{playing ? '' : text}</p>
      {dies && leg.death && <p className="dies bad" role="alert"><b>{t('diesHere')}: {t(`died_${leg.death.kind}`)}{leg.death.reason ? ` (${leg.death.reason})` : ''}.</b> {leg.death.text}</p>}
      {stop && <HopCards leg={leg} stop={stop} way={way} counters={counters} route={route} />}
    </section>
  );
}

const Icon = ({ d }: { d: string }) => <svg viewBox="0 0 20 20" aria-hidden="true"><path d={d} /></svg>;

function Picture({ leg, current, playing, counters, onChoose }: { leg: WayLeg; current: number; playing: boolean; counters: CounterStore; onChoose: (n: number) => void }) {
  const { t } = useWords();
  const frame = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const el = frame.current!;
    const observer = new ResizeObserver(() => setWidth(Math.floor(el.clientWidth)));
    observer.observe(el);
    setWidth(Math.floor(el.clientWidth));
    return () => observer.disconnect();
  }, []);
  const drawing = useMemo(() => (width > 0 ? drawLeg(leg, Math.max(320, Math.min(width, 1240)), pairsOf(leg)) : undefined), [leg, width]);
  return <div className="picture" ref={frame}>{drawing && <Scene leg={leg} drawing={drawing} current={current} playing={playing} counters={counters} onChoose={onChoose} label={t('drawingOf')} />}</div>;
}

interface SceneProps {
  readonly leg: WayLeg;
  readonly drawing: Drawing;
  readonly current: number;
  readonly playing: boolean;
  readonly counters: CounterStore;
  readonly label: string;
  readonly onChoose: (n: number) => void;
}

function Scene({ leg, drawing, current, counters, label, onChoose }: SceneProps) {
  const { t } = useWords();
  const store = useCounters(counters);
  const scene = sceneOf({ leg, drawing, counters: (id) => store.total(id), words: sceneWords(t) });
  const stops = new Map<number, Primitive[]>();
  for (const p of scene) if (p.stop !== undefined) stops.set(p.stop, [...(stops.get(p.stop) ?? []), p]);
  return (
    <svg className="scene" viewBox={`0 0 ${drawing.width} ${drawing.height}`} width={drawing.width} height={drawing.height} role="group" aria-label={label}>
      {scene.filter((p) => p.stop === undefined && !p.cls.startsWith('death')).map((p, i) => <Shape key={i} p={p} passed={passed(p, current)} />)}
      {[...stops].map(([n, shapes]) => {
        const s = leg.stops[n - 1]!;
        const state = t(`state_${s.row.state.replace(' ', '') as 'seen'}`);
        return (
          <g key={n} role="button" tabIndex={s.missed ? -1 : 0} className={`hop${n === current ? ' current' : ''}`} aria-pressed={n === current} data-hop={n}
            aria-description={t('stopLabel', n, deviceTitle(s), s.where, state)} onClick={() => onChoose(n)}
            onKeyDown={(e) => (e.key === 'Enter' || e.key === ' ') && (e.preventDefault(), onChoose(n))}>
            {shapes.map((p, i) => <Shape key={i} p={p} />)}
          </g>
        );
      })}
      <Packet drawing={drawing} current={current} />
      {scene.filter((p) => p.cls.startsWith('death')).map((p, i) => <Shape key={i} p={p} />)}
    </svg>
  );
}

const passed = (p: Primitive, current: number): boolean => typeof p.attrs['data-wire'] === 'number' && p.attrs['data-wire'] < current;

function Shape({ p, passed: done = false }: { p: Primitive; passed?: boolean }) {
  const { 'text-anchor': textAnchor, ...attrs } = p.attrs;
  const Tag = p.tag;
  return <Tag {...attrs} {...(textAnchor === undefined ? {} : { textAnchor: textAnchor as 'start' })} className={`${p.cls}${done ? ' passed' : ''}`}>{p.text}</Tag>;
}

/** The packet itself: moves along the wire to the hop it comes to. */
function Packet({ drawing, current }: { drawing: Drawing; current: number }) {
  const dot = useRef<SVGGElement>(null);
  useEffect(() => {
    const g = dot.current;
    const wire = drawing.wires[current - 1];
    const box = drawing.boxes[current - 1];
    g?.toggleAttribute('hidden', !wire || !box);
    if (!g || !wire || !box) return undefined;
    const end = { x: box.x + box.w - (box.w < 130 ? 6 : 15), y: box.y + (box.w < 130 ? 2 : 15) };
    const place = (p: { x: number; y: number }): void => g.setAttribute('transform', `translate(${p.x} ${p.y})`);
    if (still()) {
      place(end);
      return undefined;
    }
    const started = performance.now();
    let frame = requestAnimationFrame(function move(now: number) {
      const f = Math.min(1, (now - started) / MOVE_MS);
      place(f < 1 ? along(wire.points, f) : end);
      if (f < 1) frame = requestAnimationFrame(move);
    });
    return () => cancelAnimationFrame(frame);
  }, [drawing, current]);
  return <g ref={dot} className="packet-dot" aria-hidden="true"><circle r="8" /><path d="M-4 -3h8v6h-8zM-4 -3l4 3.4l4 -3.4" /></g>;
}
