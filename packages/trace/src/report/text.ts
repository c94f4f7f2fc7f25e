/**
 * A report as lines of text: fits 120 columns and more, stays readable at 80. Lines carry a tone, so that who prints may colour
 * them; nothing here knows about terminals.
 */
import type { Sighting } from '../observe/sighting.js';
import type { Leg, PredictedPacket, Report, Row } from './model.js';

export type Tone = 'title' | 'head' | 'good' | 'bad' | 'plain' | 'dim';

export interface Line {
  readonly text: string;
  readonly tone: Tone;
}

export interface TextOptions {
  /** Columns; default 120. */
  readonly width?: number;
  /** Also rows in the underlay; otherwise only those where something is wrong. Default true. */
  readonly underlay?: boolean;
  /** Numbered look-ups below the tables. Default: when nothing was observed. */
  readonly steps?: boolean;
}

const MARK: Readonly<Record<Row['state'], string>> = { seen: '✓', differs: '✗', missing: '✗', copy: '+', unexpected: '!', 'not observed': '·' };
const WIDE = 110;

/** Display width of one character: CJK and the like take two columns. */
const charWidth = (ch: string): number => (/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/u.test(ch) ? 2 : 1);
export const textWidth = (s: string): number => [...s].reduce((n, ch) => n + charWidth(ch), 0);
const pad = (s: string, width: number): string => s + ' '.repeat(Math.max(0, width - textWidth(s)));
const padLeft = (s: string, width: number): string => ' '.repeat(Math.max(0, width - textWidth(s))) + s;

/** The longest beginning that fits; at least one character. */
function fitting(word: string, room: number): string {
  let width = 0;
  let head = '';
  for (const ch of word) {
    width += charWidth(ch);
    if (head && width > room) break;
    head += ch;
  }
  return head;
}

/** Breaks at spaces; a word longer than a line is cut. */
export function wrap(text: string, width: number, indent = ''): string[] {
  const lines: string[] = [];
  let line = '';
  for (let word of text.split(' ')) {
    const room = width - textWidth(indent);
    while (textWidth(word) > room) {
      if (line) lines.push(indent + line);
      line = '';
      const head = fitting(word, room);
      lines.push(indent + head);
      word = word.slice(head.length);
    }
    if (line && textWidth(line) + 1 + textWidth(word) > room) {
      lines.push(indent + line);
      line = word;
    } else line = line ? `${line} ${word}` : word;
  }
  if (line) lines.push(indent + line);
  return lines;
}

export function renderReport(r: Report, options: TextOptions = {}): Line[] {
  const width = Math.max(60, options.width ?? 120);
  const out: Line[] = [];
  const add = (text: string, tone: Tone = 'plain', indent = ''): void => void wrap(text, width, indent).forEach((t) => out.push({ text: t, tone }));
  add(`${r.from.name} → ${r.to?.name ?? r.flow.dst}: ${r.tuple}`, 'title');
  for (const e of [r.from, ...(r.to ? [r.to] : [])]) {
    add(`  ${e.role} ${e.name} ${e.addresses.join(', ')}${e.role === 'pod' ? ` on node ${e.node ?? '?'} ${e.nodeAddresses.join(', ')}` : ''}`, 'dim');
  }
  out.push({ text: '', tone: 'plain' });
  add(r.headline, r.verdict === 'delivered' && r.request.asPredicted !== false && r.reply?.asPredicted !== false ? 'good' : 'bad');
  for (const leg of [r.request, ...(r.reply ? [r.reply] : [])]) {
    out.push({ text: '', tone: 'plain' });
    out.push(...legLines(leg, r.observed, width, options));
  }
  for (const a of r.asymmetry) add(`asymmetric: ${a}`, 'bad', '');
  for (const e of r.errors) add(`${e.from} says: ${e.summary}`, 'bad');
  for (const e of r.evidence) add(`counter while probing: ${e}`, 'plain');
  if (r.summary.length || r.budget) out.push({ text: '', tone: 'plain' });
  for (const s of r.summary) add(s);
  if (r.budget) add(`bytes: ${r.budget}`, 'dim');
  if (r.request.rows.some((x) => (x.observed?.outer ?? x.predicted?.outer)?.dstPort === 8472)) add('UDP port 8472 is VXLAN on Linux; tcpdump calls it OTV and the VNI its instance', 'dim');
  if (options.steps ?? !r.observed) {
    for (const leg of [r.request, ...(r.reply ? [r.reply] : [])]) {
      out.push({ text: '', tone: 'plain' }, { text: leg.direction === 'request' ? 'Steps there' : 'Steps back', tone: 'head' });
      leg.steps.forEach((s, i) => out.push(...wrapStep(`${padLeft(String(i + 1), 3)}  ${pad(s.netns.replace(/^default\//, ''), 10)} ${pad(s.kind, 14)} ${s.why}`, width)));
    }
  }
  for (const n of r.notes) add(n, 'dim');
  return out;
}

function wrapStep(text: string, width: number): Line[] {
  if (textWidth(text) <= width) return [{ text, tone: 'plain' }];
  const at = 31;
  const [first = '', ...rest] = wrap(text.slice(at), width - at);
  return [{ text: text.slice(0, at) + first, tone: 'plain' }, ...rest.map((t): Line => ({ text: ' '.repeat(at) + t, tone: 'plain' }))];
}

function legLines(leg: Leg, observed: boolean, width: number, options: TextOptions): Line[] {
  const out: Line[] = [];
  const wide = width >= WIDE;
  const rows = leg.rows.filter((r) => options.underlay !== false || r.point.role !== 'underlay' || (r.state !== 'seen' && r.state !== 'not observed'));
  const name = (r: Row): string => `${r.point.label}${r.point.index === undefined ? '' : ` #${r.point.index}`}`;
  const first = Math.min(wide ? 34 : 22, Math.max(12, ...rows.map((r) => textWidth(name(r)))));
  const prefix = 6;
  const predictedWidth = wide ? 18 : 15;
  out.push({ text: leg.direction === 'request' ? 'There' : 'Back', tone: 'head' });
  out.push({ text: `${pad('', prefix + first)}  ${pad('predicted', predictedWidth)}${observed ? '| observed' : ''}`, tone: 'dim' });
  out.push({ text: `${pad('   # ', prefix)}${pad('device', first)}  ${pad('TTL   IP frame', predictedWidth)}${observed ? `| ${padLeft('+µs', 9)}  TTL   IP frame  IP id${wide ? '  checksum' : ''}` : ''}`, tone: 'dim' });
  rows.forEach((r, i) => {
    const tone: Tone = r.state === 'seen' ? 'good' : r.state === 'not observed' || r.state === 'copy' ? 'plain' : 'bad';
    const label = textWidth(name(r)) > first ? `${name(r).slice(0, first - 1)}…` : name(r);
    out.push({ text: `${MARK[r.state]} ${padLeft(String(i + 1), 2)}  ${pad(label, first)}  ${pad(numbers(r.predicted), predictedWidth)}${observed ? `| ${observedText(r)}${wide && r.observed ? `  ${checksumText(r.observed)}` : ''}` : ''}`.trimEnd(), tone });
    const indent = ' '.repeat(prefix);
    const detail = (text: string, t: Tone = 'dim'): void => void wrap(text, width, indent).forEach((x) => out.push({ text: x, tone: t }));
    const peer = r.point.text.includes('↔') ? `${r.point.text}  ` : '';
    const mac = r.observed?.ethernet ?? r.predicted?.ethernet;
    const outer = r.observed?.outer ?? r.predicted?.outer;
    const inner = outer ? 'inner frame ' : '';
    if (outer) detail(`${peer}${outer.ethernet ? `${outer.ethernet.src} → ${outer.ethernet.dst}` : ''}`.trimEnd());
    if (mac) detail(`${outer ? inner : peer}${mac.src} → ${mac.dst}`);
    else if (peer) detail(peer.trimEnd());
    if (outer) detail(outerText(outer));
    if (r.predicted?.sealed) detail(sealedText(r));
    if (!wide && r.observed) detail(`checksums ${checksumText(r.observed)}`);
    for (const d of r.decisions) if (SHOWN.has(d.kind)) detail(`${d.kind}: ${d.why}`, 'plain');
    if (r.state === 'copy') detail('a copy, flooded by a bridge that did not know the port');
    if (r.state === 'unexpected') detail('not expected here', 'bad');
    for (const d of r.differences) detail(`✗ ${d}`, 'bad');
  });
  for (const d of leg.end) wrap(`→ ${d.kind}: ${d.why}`, width, ' '.repeat(3)).forEach((text) => out.push({ text, tone: d.kind === 'drop' || d.kind === 'unknown' ? 'bad' : 'plain' }));
  if (leg.alternatives) out.push({ text: `   ${leg.alternatives} other way(s) are possible: the kernel chooses by a hash, or at random`, tone: 'dim' });
  if (leg.expectedNext) out.push({ text: `✗  last seen at ${leg.lastSeen ?? 'no point'}; expected next at ${leg.expectedNext}`, tone: 'bad' });
  return out;
}

/** What decides; the rest (sent, passed a device) is the row itself. */
const SHOWN = new Set(['source-address', 'route', 'rp-filter', 'filter', 'nat', 'fragment', 'neighbour', 'resolve', 'bridge', 'encapsulate', 'decapsulate', 'forward', 'unknown']);

const numbers = (p: PredictedPacket | undefined): string => (p ? `${padLeft(String(p.ttl), 3)} ${padLeft(String(p.ipLength), 4)} ${padLeft(String(p.frameLength), 5)}` : '');

function observedText(r: Row): string {
  const s = r.observed;
  if (!s) return r.state === 'missing' ? '        -  not seen' : '        -';
  return `${padLeft(s.offsetUs.toFixed(1), 9)}  ${padLeft(String(s.ttl), 3)} ${padLeft(String(s.ipLength), 4)} ${padLeft(String(s.frameLength), 5)}  ${padLeft(String(s.ipId ?? '-'), 5)}`;
}

function sealedText({ predicted, observed }: Row): string {
  const from = observed ?? predicted;
  const message = observed?.sealed ? ` data, receiver 0x${observed.sealed.receiverIndex.toString(16).padStart(8, '0')}, counter ${observed.sealed.counter}: encrypted, matched by ${observed.sealed.by}` : ' data: encrypted';
  return `${from?.src} → ${from?.dst} WireGuard${message}`;
}

const checksumText = (s: Sighting): string => [s.checksum.ip ?? '-', s.checksum.transport ?? '-'].join('/');

function outerText(o: { src: string; dst: string; srcPort?: number; dstPort: number; vni: number; ttl: number; dontFragment: boolean; ipLength: number; vxlanFlags?: number }): string {
  return `outer ${o.src}${o.srcPort === undefined ? '' : `:${o.srcPort}`} → ${o.dst}:${o.dstPort} VXLAN${o.vxlanFlags === undefined ? '' : ` flags 0x${o.vxlanFlags.toString(16).padStart(2, '0')}`} VNI ${o.vni} TTL ${o.ttl} DF ${o.dontFragment ? 'set' : 'not set'} IP length ${o.ipLength}`;
}
