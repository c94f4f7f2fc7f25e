/** The complete numbered flow as text of plain ASCII: for mails, tickets and source code. Pure. */
import { changeText } from './packet.js';
import { deviceTitle, type HopCounters } from './scene.js';
import { decidingOf, type Layer, type Way, type WayLeg } from './way.js';

const WIDTH = 78;
const LAYER: Readonly<Record<Layer, string>> = { app: 'application', pod: 'pod network', node: 'node network', physical: 'physical network' };

const REPLACED: Readonly<Record<string, string>> = { '→': '->', '↔': '<->', 'µ': 'u', '…': '...', '·': '-', '’': "'", '“': '"', '”': '"', '✓': 'ok', '–': '-' };
const plain = (s: string): string => s.replace(/[^\x20-\x7e]/g, (c) => REPLACED[c] ?? '?');

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    let rest = word;
    if (line && line.length + 1 + rest.length > width) {
      lines.push(line);
      line = '';
    }
    while (rest.length > width) {
      lines.push(rest.slice(0, width));
      rest = rest.slice(width);
    }
    line = line ? `${line} ${rest}` : rest;
  }
  return line ? [...lines, line] : lines;
}

function box(title: string, content: readonly string[]): string[] {
  const inner = WIDTH - 4;
  const lines = content.flatMap((c) => wrap(plain(c), inner));
  return [`+-- ${plain(title)} ${'-'.repeat(Math.max(0, WIDTH - 6 - plain(title).length))}+`.slice(0, WIDTH - 1).padEnd(WIDTH - 1, '-') + '+', ...lines.map((l) => `| ${l.padEnd(inner)} |`), `+${'-'.repeat(WIDTH - 2)}+`];
}

const ARROW = [`${' '.repeat(WIDTH / 2)}|`, `${' '.repeat(WIDTH / 2)}v`];

export function asciiOf(way: Way, counters: (device: string) => HopCounters | undefined): string {
  return [plain(way.report.tuple), plain(way.report.headline), ...way.legs.flatMap((leg) => ['', leg.direction === 'request' ? 'THERE' : 'BACK', '', ...legLines(leg, counters)]), ''].join('\n');
}

function legLines(leg: WayLeg, counters: (device: string) => HopCounters | undefined): string[] {
  const out = box(`${LAYER.app}: ${leg.from.title}`, [`${leg.from.process} sends`]);
  for (const [i, s] of leg.stops.entries()) {
    if (leg.death?.after === i) out.push(...death(leg));
    out.push(...ARROW);
    const p = s.row.observed ?? s.row.predicted;
    const c = counters(s.device);
    out.push(...box(`Step ${s.number}: ${deviceTitle(s)} in ${s.where} (${LAYER[s.layer]})`, [
      ...decidingOf(s.row).map((d) => `${d.kind}: ${d.why}`),
      ...(p ? [`${p.src} -> ${p.dst}  TTL ${p.ttl}  IP ${p.ipLength}  frame ${p.frameLength}${p.outer ? `  in VXLAN ${p.outer.vni} ${p.outer.src} -> ${p.outer.dst}` : ''}`] : []),
      ...(s.packet.changes.length ? [`changed: ${s.packet.changes.map(changeText).join(', ')}`] : []),
      s.missed ? 'NOT SEEN HERE' : s.row.observed ? `seen after ${s.row.observed.offsetUs.toFixed(1)} us${s.row.state === 'differs' ? `, BUT ${s.row.differences.join(', ')}` : ''}` : 'predicted only',
      ...(c ? [`counters: ${c.rx} received, ${c.tx} sent`] : []),
    ]));
  }
  if (leg.death && leg.death.after >= leg.stops.length) out.push(...death(leg));
  if (leg.to) out.push(...ARROW, ...box(`${LAYER.app}: ${leg.to.title}`, [`${leg.to.process} receives`, ...leg.end.map((d) => `${d.kind}: ${d.why}`)]));
  return out;
}

const death = ({ death: d }: WayLeg): string[] => (d ? [`${' '.repeat(WIDTH / 2)}X  ${d.kind}${d.reason === undefined ? '' : ` ${d.reason}`}`, ...wrap(plain(d.text), WIDTH - 4).map((l) => `    ${l}`)] : []);
