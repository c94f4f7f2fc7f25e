/**
 * Is a table in the kernel what we asked for? The kernel's listing adds handles, counters' values
 * and default fields; those do not count.
 */
import type { NftTable } from './keys.js';

/** Volatile, or assigned by the kernel. */
const IGNORED = new Set(['handle', 'index']);

/** A text that is equal for equal tables: kinds sorted, rules of a chain in their order, elements sorted. */
export function canonicalTable(t: NftTable): string {
  const lines = t.objects.map((o) => {
    const [kind, body] = Object.entries(o)[0]!;
    return { kind, chain: String(body['chain'] ?? ''), text: JSON.stringify({ [kind]: canonical(body) }) };
  });
  const order = ['table', 'map', 'set', 'chain', 'rule'];
  const rank = (kind: string) => (order.indexOf(kind) < 0 ? order.length : order.indexOf(kind));
  return lines
    .map((l, position) => ({ ...l, position }))
    .sort((a, b) => rank(a.kind) - rank(b.kind) || (a.kind === 'rule'
      ? a.chain.localeCompare(b.chain) || a.position - b.position
      : a.text.localeCompare(b.text)))
    .map((l) => l.text)
    .join('\n');
}

function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (value === null || typeof value !== 'object') return value;
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(value as Record<string, unknown>).sort(([a], [b]) => a.localeCompare(b))) {
    if (IGNORED.has(k)) continue;
    // A counter's values move with traffic: that it is there is what counts.
    if (k === 'counter' && v !== null && typeof v === 'object') out[k] = null;
    else if (k === 'elem' && Array.isArray(v)) out[k] = v.map((e) => JSON.stringify(canonical(e))).sort();
    else if (k === 'set' && Array.isArray(v)) out[k] = v.map((e) => JSON.stringify(canonical(e))).sort();
    else out[k] = canonical(v);
  }
  return out;
}

export const sameTable = (a: NftTable, b: NftTable): boolean => canonicalTable(a) === canonicalTable(b);
