/**
 * One leg of a way as a drawing: bands for the four layers, a box for each device, wires between them. The packet goes down on the
 * left, across at the bottom and up on the right. Pure geometry in pixels; svg.ts writes it as a file, the page as elements.
 */
import { LAYERS, type Layer, type Stop, type WayLeg } from './way.js';

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Area extends Point {
  readonly w: number;
  readonly h: number;
}

export interface Band extends Area {
  readonly layer: Layer;
}

/** A namespace: what lies within it is drawn inside. */
export interface Frame extends Area {
  readonly netns: string;
}

export interface StopBox extends Area {
  readonly stop: Stop;
  readonly side: 'left' | 'right' | 'middle';
}

export interface TerminalBox extends Area {
  readonly which: 'from' | 'to';
}

export interface Wire {
  readonly points: readonly Point[];
  /** The two ends of a veth pair. */
  readonly pair: boolean;
  /** Behind the place where the packet ended. */
  readonly missed: boolean;
}

export interface Drawing {
  readonly width: number;
  readonly height: number;
  readonly wide: boolean;
  readonly bands: readonly Band[];
  readonly frames: readonly Frame[];
  readonly terminals: readonly TerminalBox[];
  readonly boxes: readonly StopBox[];
  /** From the sender to the first stop, … to the receiver: the n-th leads to the n-th stop. */
  readonly wires: readonly Wire[];
  /** Where the packet dies. */
  readonly death?: Point;
}

const MARGIN = 10;
const BOX = 46;
const GAP = 20;
/** Between rows of what is drawn across: names of namespaces stand there. */
const ROW_GAP = 36;
const BAND_GAP = 8;
const WIDE = 720;
const COLUMN = 236;
/** Narrowest box at the bottom in which a name still fits. */
const NARROWEST = 84;

interface Parts {
  readonly left: readonly Stop[];
  readonly run: readonly Stop[];
  readonly right: readonly Stop[];
}

/** Down on the left, the deepest ones across, up on the right. */
function split(stops: readonly Stop[]): Parts {
  const deepest = Math.max(0, ...stops.map((s) => s.depth));
  const first = stops.findIndex((s) => s.depth === deepest);
  const last = stops.findLastIndex((s) => s.depth === deepest);
  return first < 0 ? { left: stops, run: [], right: [] } : { left: stops.slice(0, first), run: stops.slice(first, last + 1), right: stops.slice(last + 1) };
}

/** Rows of a column: its depth, and more of them for devices of equal depth. */
function rowKeys(column: readonly Stop[]): number[] {
  const used = new Map<number, number>();
  return column.map((s) => {
    const n = used.get(s.depth) ?? 0;
    used.set(s.depth, n + 1);
    return s.depth + n / 10;
  });
}

export function drawLeg(leg: WayLeg, width: number, pairs: ReadonlySet<string>): Drawing {
  const wide = width >= WIDE;
  // Beside each other where there is room, else the layer's name above those of the namespaces.
  const head = wide ? 26 : 38;
  const column = wide ? COLUMN : (width - 6 * MARGIN) / 2;
  const { left, run, right } = split(leg.stops);
  const leftKeys = rowKeys(left);
  const rightKeys = rowKeys([...right].reverse()).reverse();
  const x = { left: 2 * MARGIN, right: width - 2 * MARGIN - column, middle: 2 * MARGIN };
  const room = width - 4 * MARGIN;
  const perRow = Math.max(1, Math.min(run.length, Math.floor((room + GAP) / (NARROWEST + GAP))));
  const runRows = Math.ceil(run.length / perRow);
  const runLayer = run[0]?.layer ?? 'node';

  const bands: Band[] = [];
  const boxes: StopBox[] = [];
  const terminals: TerminalBox[] = [];
  let y = MARGIN;
  for (const layer of LAYERS) {
    const keys = [...new Set([...left, ...right].map((s, i) => (s.layer === layer ? (i < left.length ? leftKeys[i]! : rightKeys[i - left.length]!) : -1)))].filter((k) => k >= 0).sort((a, b) => a - b);
    const columnRows = layer === 'app' ? 1 : keys.length;
    const across = run.length > 0 && runLayer === layer;
    if (columnRows === 0 && !across) continue;
    const top = y + head;
    const rowY = (i: number): number => top + i * (BOX + GAP);
    bands.push({ layer, x: 0, y, w: width, h: head + columnRows * (BOX + GAP) + (across ? runRows * (BOX + ROW_GAP) - ROW_GAP : -GAP) + MARGIN });
    if (layer === 'app') {
      terminals.push({ which: 'from', x: x.left, y: rowY(0), w: column, h: BOX });
      if (leg.to) terminals.push({ which: 'to', x: x.right, y: rowY(0), w: column, h: BOX });
    }
    left.forEach((stop, i) => stop.layer === layer && boxes.push({ stop, side: 'left', x: x.left, y: rowY(keys.indexOf(leftKeys[i]!)), w: column, h: BOX }));
    right.forEach((stop, i) => stop.layer === layer && boxes.push({ stop, side: 'right', x: x.right, y: rowY(keys.indexOf(rightKeys[i]!)), w: column, h: BOX }));
    if (across) {
      const w = Math.min(COLUMN, (room - (perRow - 1) * GAP) / perRow);
      run.forEach((stop, i) => {
        const row = Math.floor(i / perRow);
        const inRow = Math.min(perRow, run.length - row * perRow);
        const place = row % 2 === 0 ? i - row * perRow : inRow - 1 - (i - row * perRow); // as the plough goes
        const step = inRow === 1 ? 0 : (room - w) / (inRow - 1);
        boxes.push({ stop, side: 'middle', x: inRow === 1 ? (width - w) / 2 : x.middle + place * step, y: rowY(columnRows) + row * (BOX + ROW_GAP), w, h: BOX });
      });
    }
    y += bands.at(-1)!.h + BAND_GAP;
  }
  boxes.sort((a, b) => a.stop.number - b.stop.number);
  const chain: Area[] = [terminals[0]!, ...boxes, ...(terminals[1] ? [terminals[1]] : [])];
  const wires = chain.slice(1).map((to, i): Wire => {
    const [a, b] = [boxes[i - 1]?.stop, boxes[i]?.stop];
    // Up from a lower row: beside the rows above, not through them.
    const around = boxes[i - 1]?.side === 'middle' && boxes[i]?.side !== 'middle' && runRows > 1;
    return { points: around ? roundabout(chain[i]!, to, width) : wire(chain[i]!, to), pair: a !== undefined && b !== undefined && (pairs.has(`${a.device} ↔ ${b.device}`) || pairs.has(`${b.device} ↔ ${a.device}`)), missed: b?.missed ?? (a?.missed ?? false) };
  });
  const death = leg.death && deathPoint(chain, { after: leg.death.after, up: boxes[leg.death.after - 1]?.side === 'right' });
  // A packet may die below the last box.
  const height = Math.max(y, (death?.y ?? 0) + 22);
  return { width, height, wide, bands, frames: framesOf(boxes), terminals, boxes, wires, ...(death ? { death } : {}) };
}

const centre = (a: Area): Point => ({ x: a.x + a.w / 2, y: a.y + a.h / 2 });

/** Straight where two boxes face each other, else with two corners half way. */
function wire(a: Area, b: Area): Point[] {
  const [ca, cb] = [centre(a), centre(b)];
  if (Math.abs(a.y - b.y) < 1) return ca.x < cb.x ? [{ x: a.x + a.w, y: ca.y }, { x: b.x, y: cb.y }] : [{ x: a.x, y: ca.y }, { x: b.x + b.w, y: cb.y }];
  const down = a.y < b.y;
  const from = { x: ca.x, y: down ? a.y + a.h : a.y };
  const to = { x: cb.x, y: down ? b.y : b.y + b.h };
  if (Math.abs(ca.x - cb.x) < 1) return [from, to];
  // The corner lies in the gap next to the lower box, where no other box is.
  const corner = down ? to.y - GAP / 2 : from.y - GAP / 2;
  const lower = down ? b : a;
  const upperX = down ? ca.x : cb.x;
  const lowerX = Math.min(Math.max(upperX, lower.x + 12), lower.x + lower.w - 12);
  if (Math.abs(lowerX - upperX) < 1) return down ? [from, { x: upperX, y: to.y }] : [{ x: upperX, y: from.y }, to];
  return down ? [from, { x: from.x, y: corner }, { x: lowerX, y: corner }, { x: lowerX, y: to.y }] : [{ x: lowerX, y: from.y }, { x: lowerX, y: corner }, { x: to.x, y: corner }, to];
}

/** Out below, up along the right edge, and in from below. */
function roundabout(a: Area, b: Area, width: number): Point[] {
  const [ca, cb] = [centre(a), centre(b)];
  const [low, high, edge] = [a.y + a.h + 5, b.y + b.h + GAP / 2, width - 5];
  return [{ x: ca.x, y: a.y + a.h }, { x: ca.x, y: low }, { x: edge, y: low }, { x: edge, y: high }, { x: cb.x, y: high }, { x: cb.x, y: b.y + b.h }];
}

/** Namespaces as frames around neighbouring boxes of one side. */
function framesOf(boxes: readonly StopBox[]): Frame[] {
  const groups: StopBox[][] = [];
  for (const b of boxes) {
    const last = groups.at(-1);
    if (last?.[0] && last[0].stop.where === b.stop.where && last[0].side === b.side && (b.side !== 'middle' || last[0].y === b.y)) last.push(b);
    else groups.push([b]);
  }
  const pad = MARGIN - 2;
  // A bridge between two pods of one node lies in the namespace that both sides show already.
  const shown = groups.filter((g) => g[0]!.side !== 'middle' || g[0]!.stop.layer === 'physical' || groups.length === 1);
  return shown.map((g) => {
    const [x, y] = [Math.min(...g.map((b) => b.x)) - pad, Math.min(...g.map((b) => b.y)) - pad];
    return { netns: g[0]!.stop.where, x, y, w: Math.max(...g.map((b) => b.x + b.w)) + pad - x, h: Math.max(...g.map((b) => b.y + b.h)) + pad - y };
  });
}

/** On the wire behind the last box that it passed; where none is drawn, beyond that box in the direction it had. */
function deathPoint(chain: readonly Area[], { after, up }: { readonly after: number; readonly up: boolean }): Point {
  const at = chain[Math.min(after, chain.length - 1)]!;
  const next = chain[after + 1];
  if (!next) return after === 0 ? { x: at.x + at.w + 22, y: at.y + at.h / 2 } : { x: at.x + at.w / 2, y: up ? at.y - 26 : at.y + at.h + 18 };
  const points = wire(at, next);
  const middle = Math.floor((points.length - 1) / 2);
  const [p, q] = [points[middle]!, points[middle + 1]!];
  return { x: (p.x + q.x) / 2, y: (p.y + q.y) / 2 };
}

/** A point of a polyline, `t` from 0 to 1. */
export function along(points: readonly Point[], t: number): Point {
  const lengths = points.slice(1).map((p, i) => Math.hypot(p.x - points[i]!.x, p.y - points[i]!.y));
  let left = t * lengths.reduce((a, b) => a + b, 0);
  for (const [i, length] of lengths.entries()) {
    const [p, q] = [points[i]!, points[i + 1]!];
    if (left <= length || i === lengths.length - 1) {
      const f = length === 0 ? 0 : Math.min(1, left / length);
      return { x: p.x + (q.x - p.x) * f, y: p.y + (q.y - p.y) * f };
    }
    left -= length;
  }
  return points[0]!;
}
