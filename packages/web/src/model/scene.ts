/**
 * A drawing as primitives with classes: the page makes elements of them, svg.ts a file. One place decides what is written where,
 * so the exported picture is the one on the page. Pure.
 */
import type { Area, Drawing, StopBox } from './drawing.js';
import { decidingOf, type Death, type Layer, type Stop, type WayLeg } from './way.js';

export interface Primitive {
  readonly tag: 'rect' | 'text' | 'path' | 'circle';
  readonly cls: string;
  readonly attrs: Readonly<Record<string, string | number>>;
  readonly text?: string;
  /** Belongs to this stop. */
  readonly stop?: number;
}

export interface HopCounters {
  readonly rx: number;
  readonly tx: number;
}

export interface SceneWords {
  readonly layers: Readonly<Record<Layer, string>>;
  readonly received: string;
  readonly sent: string;
  readonly sends: string;
  readonly receives: string;
  readonly died: Readonly<Record<Death['kind'], string>>;
}

export interface SceneInput {
  readonly leg: WayLeg;
  readonly drawing: Drawing;
  readonly counters: (device: string) => HopCounters | undefined;
  readonly words: SceneWords;
}

const wide = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/u;

/** A bold guess of how wide a text is drawn, in pixels: no letter of a usual sans-serif font is wider on average. */
export const textPixels = (text: string, size: number): number => [...text].reduce((n, ch) => n + (wide.test(ch) ? 1 : /[mwMW@%→↔]/.test(ch) ? 0.9 : /[ilj.,:;'|\s/()]/.test(ch) ? 0.36 : 0.6), 0) * size;

/** Cut with an ellipsis to fit. */
export function fit(text: string, pixels: number, size: number): string {
  if (textPixels(text, size) <= pixels) return text;
  const chars = [...text];
  while (chars.length > 1 && textPixels(`${chars.join('')}…`, size) > pixels) chars.pop();
  return `${chars.join('')}…`;
}

/** In at most `lines` lines, broken at blanks. */
function fold(text: string, pixels: number, { size, lines }: { size: number; lines: number }): string[] {
  const out: string[] = [];
  let line = '';
  const words = text.split(' ');
  for (const [i, word] of words.entries()) {
    const longer = line ? `${line} ${word}` : word;
    if (line && textPixels(longer, size) > pixels) {
      if (out.length === lines - 1) return [...out, fit([line, ...words.slice(i)].join(' '), pixels, size)];
      out.push(line);
      line = word;
    } else line = longer;
  }
  return [...out, fit(line, pixels, size)];
}

export const deviceTitle = (s: Stop): string => `${s.row.point.dev}${s.row.point.index === undefined ? '' : ` #${s.row.point.index}`}`;
/** Size for measuring titles: 13 pixels and bold, which is wider. */
const BOLD = 15;
const number = (n: number): string => n.toLocaleString('en-US');

export function sceneOf({ leg, drawing, counters, words }: SceneInput): Primitive[] {
  const out: Primitive[] = [];
  const rect = (a: Area, cls: string, r: number, stop?: number): void =>
    void out.push({ tag: 'rect', cls, attrs: { x: round(a.x), y: round(a.y), width: round(a.w), height: round(a.h), rx: r }, ...(stop === undefined ? {} : { stop }) });
  const text = (at: { x: number; y: number; anchor?: 'start' | 'middle' | 'end'; stop?: number }, cls: string, content: string): void =>
    void out.push({ tag: 'text', cls, attrs: { x: round(at.x), y: round(at.y), 'text-anchor': at.anchor ?? 'start' }, text: content, ...(at.stop === undefined ? {} : { stop: at.stop }) });

  for (const b of drawing.bands) {
    rect(b, `band ${b.layer}`, 8);
    text({ x: drawing.width / 2, y: b.y + (drawing.wide ? 13 : 14), anchor: 'middle' }, 'band-name', words.layers[b.layer]);
  }
  for (const f of drawing.frames) {
    rect(f, 'frame', 8);
    // The name of a layer stands in the middle of the same line.
    const room = drawing.wide ? Math.max(60, Math.min(f.w, drawing.width / 2 - 50)) : Math.max(f.w, 80);
    text(f.x + f.w > drawing.width - 40 && f.x > drawing.width / 3 ? { x: f.x + f.w - 4, y: f.y - 4, anchor: 'end' } : { x: f.x + 4, y: f.y - 4 }, 'frame-name', fit(f.netns, room, 11));
  }
  drawing.wires.forEach((w, i) => {
    const d = w.points.map((p, j) => `${j ? 'L' : 'M'}${round(p.x)} ${round(p.y)}`).join('');
    out.push({ tag: 'path', cls: `wire${w.pair ? ' pair' : ''}${w.missed ? ' missed' : ''}`, attrs: { d, 'data-wire': i } });
  });
  for (const t of drawing.terminals) {
    rect(t, 'terminal', 23);
    const end = t.which === 'from' ? leg.from : leg.to;
    text({ x: t.x + t.w / 2, y: t.y + 19, anchor: 'middle' }, 'title', fit(end?.title ?? '', t.w - 24, BOLD));
    text({ x: t.x + t.w / 2, y: t.y + 36, anchor: 'middle' }, 'sub', fit(`${t.which === 'from' ? words.sends : words.receives}: ${drawing.wide ? (end?.process ?? '') : (end?.process ?? '').replace(/ \(pid.*$/, '')}`, t.w - 24, 11));
  }
  for (const b of drawing.boxes) {
    const { stop } = b;
    const n = stop.number;
    rect(b, `stop ${stop.missed ? 'missed' : stop.row.state.replace(' ', '-')}`, 6, n);
    out.push({ tag: 'circle', cls: 'badge', attrs: { cx: round(b.x + 14), cy: round(b.y + 15), r: 10 }, stop: n });
    text({ x: b.x + 14, y: b.y + 19, anchor: 'middle', stop: n }, 'badge-number', String(n));
    // The upper line is the device's own (the packet comes to its right end), the lower one is for numbers.
    const narrow = b.w < 130;
    text({ x: b.x + (narrow ? 27 : 30), y: b.y + 19, stop: n }, 'title', fit(narrow ? stop.row.point.dev : deviceTitle(stop), b.w - (narrow ? 31 : 54), BOLD));
    const facts = b.w >= 200 ? `TTL ${(stop.row.observed ?? stop.row.predicted)?.ttl ?? '?'} · ${stop.packet.bytes} B` : '';
    if (facts) text({ x: b.x + b.w - 8, y: b.y + 37, anchor: 'end', stop: n }, 'sub', facts);
    const c = counters(stop.device);
    const numbers = c && (narrow ? `↓${number(c.rx)} ↑${number(c.tx)}` : `${words.received} ${number(c.rx)} · ${words.sent} ${number(c.tx)}`);
    if (numbers) text({ x: b.x + 8, y: b.y + 37, stop: n }, 'sub counters', fit(numbers, b.w - 16 - textPixels(facts, 12), 11));
    if (drawing.wide && b.side !== 'middle') notes(b, text, drawing);
  }
  if (drawing.death && leg.death) {
    const { x, y } = drawing.death;
    out.push({ tag: 'circle', cls: `death ${leg.death.kind}`, attrs: { cx: round(x), cy: round(y), r: 13 } });
    const [a, b] = [7, -7];
    const label = leg.death.reason ?? words.died[leg.death.kind];
    const left = x > drawing.width / 2;
    text({ x: left ? x - 18 : x + 18, y: y + 5, anchor: left ? 'end' : 'start' }, 'death-label', label);
    if (leg.death.kind === 'unknown') text({ x, y: y + 5, anchor: 'middle' }, 'death-mark', '?');
    else out.push({ tag: 'path', cls: 'death-cross', attrs: { d: `M${round(x + b)} ${round(y + b)}L${round(x + a)} ${round(y + a)}M${round(x + a)} ${round(y + b)}L${round(x + b)} ${round(y + a)}` } });
  }
  return out;
}

/** The look-ups that brought the packet here, beside the box: two of them, a line each. */
function notes(b: StopBox, text: (at: { x: number; y: number; anchor?: 'start' | 'middle' | 'end'; stop?: number }, cls: string, content: string) => void, drawing: Drawing): void {
  const room = drawing.width / 2 - b.w - 44;
  const deciding = decidingOf(b.stop.row);
  // What chose the way comes before how the neighbour was found.
  const order = ['no-neighbour', 'nat', 'encapsulate', 'decapsulate', 'fragment', 'route', 'bridge', 'neighbour', 'resolve', 'forward'];
  const chosen = [...deciding].sort((p, q) => order.indexOf(p.kind) - order.indexOf(q.kind)).slice(0, 2);
  const lines = chosen.flatMap((d) => fold(`${d.kind}: ${d.why}`, room, { size: 11, lines: chosen.length > 1 ? 2 : 3 }));
  const x = b.side === 'left' ? b.x + b.w + 16 : b.x - 16;
  lines.slice(0, 4).forEach((l, i) => text({ x, y: b.y + (lines.length > 3 ? 8 : 14) + i * 14, anchor: b.side === 'left' ? 'start' : 'end', stop: b.stop.number }, 'note', l));
}

const round = (n: number): number => Math.round(n * 10) / 10;
