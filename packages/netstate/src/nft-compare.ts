/**
 * Is a table in the kernel what we asked for? The kernel's listing adds handles, counters' values
 * and default fields; those do not count.
 */
import type { NftTable } from './keys.js';

/** Volatile, or assigned by the kernel. */
const IGNORED = new Set(['handle', 'index', 'expires']);
/** Of named objects: what counts traffic. */
const COUNTED: Readonly<Record<string, readonly string[]>> = { counter: ['packets', 'bytes'], quota: ['used'] };
const ORDER = ['table', 'map', 'set', 'chain', 'rule'];
const rankOf = (kind: string): number => (ORDER.includes(kind) ? ORDER.indexOf(kind) : ORDER.length);
const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** A text that is equal for equal tables: kinds sorted, rules of a chain in their order, elements sorted. */
export function canonicalTable(t: NftTable): string {
  const lines = t.objects.map((o, position) => {
    const [kind, body] = Object.entries(o)[0]!;
    return { rank: rankOf(kind), isRule: kind === 'rule', chain: String(body['chain'] ?? ''), position, text: JSON.stringify({ [kind]: canonicalObject(kind, body) }) };
  });
  return lines
    .sort((a, b) => a.rank - b.rank || (a.isRule && b.isRule ? byText(a.chain, b.chain) || a.position - b.position : byText(a.text, b.text)))
    .map((l) => l.text)
    .join('\n');
}

function canonicalObject(kind: string, body: Readonly<Record<string, unknown>>): unknown {
  const skip = COUNTED[kind] ?? [];
  // The elements of a dynamic set are put there by packets.
  const dynamic = kind === 'set' && asList(body['flags']).includes('dynamic');
  return canonical(Object.fromEntries(Object.entries(body).filter(([k]) => !skip.includes(k) && !(dynamic && k === 'elem'))));
}

const asList = (v: unknown): readonly unknown[] => (v === undefined ? [] : Array.isArray(v) ? v : [v]);
/** Lists whose order says nothing: elements of sets, and flags (of which one is as good as a list of one). */
const UNORDERED = new Set(['elem', 'set', 'flags']);

function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (value === null || typeof value !== 'object') return value;
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(value as Record<string, unknown>).sort(([a], [b]) => byText(a, b))) {
    if (IGNORED.has(k)) continue;
    // A counter's values move with traffic: that it is there is what counts.
    if (k === 'counter' && v !== null && typeof v === 'object') out[k] = null;
    else if (k === 'flags' || (UNORDERED.has(k) && Array.isArray(v))) {
      const texts = asList(v).map((e) => JSON.stringify(canonical(e))).sort(byText);
      // A set without elements is listed without the field.
      if (texts.length) out[k] = texts;
    } else out[k] = canonical(v);
  }
  return out;
}

/** The rules and what they look into, without what is looked up: elements that come and go by themselves. */
export const withoutElements = (objects: NftTable['objects']): NftTable['objects'] =>
  objects.map((o) => {
    const [kind, body] = Object.entries(o)[0]!;
    if (kind !== 'map' && kind !== 'set') return o;
    const { elem: _, ...rest } = body;
    return { [kind]: rest };
  });

/** In what two tables differ, in words: their rules, or which elements of which set or map. */
export function tableDifference(want: NftTable, is: NftTable): string {
  const bare = (t: NftTable): string => canonicalTable({ ...t, objects: withoutElements(t.objects) });
  if (bare(want) !== bare(is)) return 'its rules differ';
  const elements = (t: NftTable): Map<string, Map<string, unknown>> => new Map(t.objects.flatMap((o) => {
    const [kind, body] = Object.entries(o)[0]!;
    return kind === 'map' || kind === 'set' ? [[String(body['name']), new Map(asList(body['elem']).map((e) => [JSON.stringify(canonical(e)), e]))] as const] : [];
  }));
  const have = elements(is);
  const words = [...elements(want)].flatMap(([name, wanted]) => {
    const there = have.get(name) ?? new Map<string, unknown>();
    const of = (what: string, list: readonly unknown[]): string[] =>
      list.length ? [`${what} in ${name}: ${list.slice(0, MOST_NAMED).map(elementWords).join(', ')}${list.length > MOST_NAMED ? ` and ${list.length - MOST_NAMED} more` : ''}`] : [];
    return [...of('missing', [...wanted].filter(([k]) => !there.has(k)).map(([, e]) => e)), ...of('extra', [...there].filter(([k]) => !wanted.has(k)).map(([, e]) => e))];
  });
  return words.join('; ') || 'its elements differ';
}
const MOST_NAMED = 3;

/** As nft prints it: `0.0.0.0 . tcp . 8080 : 10.244.0.5`. */
function elementWords(e: unknown): string {
  if (Array.isArray(e)) return e.map(elementWords).join(' : ');
  if (e === null || typeof e !== 'object') return String(e);
  const { concat, prefix } = e as { concat?: readonly unknown[]; prefix?: { addr: unknown; len: unknown } };
  return concat ? concat.map(elementWords).join(' . ') : prefix ? `${String(prefix.addr)}/${String(prefix.len)}` : JSON.stringify(e);
}

export const sameTable = (a: NftTable, b: NftTable): boolean => canonicalTable(a) === canonicalTable(b);

/** The objects as they can be added: a listing's handles would be taken for positions. */
export const withoutHandles = (t: NftTable): NftTable['objects'] =>
  t.objects.map((o) => {
    const [kind, { handle: _, ...body }] = Object.entries(o)[0]!;
    return { [kind]: body };
  });
