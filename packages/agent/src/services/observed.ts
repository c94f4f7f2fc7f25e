/** The table as the kernel lists it, in the terms of this part; and in what it differs from what is wanted. Pure. */
import { canonicalTable } from '@podway/netstate';
import type { NftObject } from '@podway/kernel';
import type { SetName } from './entries.js';
import { baseChains, chainForms, chainObject, ruleObject, SERVICES_TABLE, setForms, setObject, type ChainForms } from './ruleset.js';
import { tableDifference, type TableChange, type TableContent } from './table.js';

type Json = Readonly<Record<string, unknown>>;
const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);

/** An element's part as nft writes it. */
function partText(v: unknown): string {
  if (!isObject(v)) return String(v);
  if (Array.isArray(v['concat'])) return v['concat'].map(partText).join(' . ');
  if (isObject(v['prefix'])) return `${String(v['prefix']['addr'])}/${String(v['prefix']['len'])}`;
  if (Array.isArray(v['range'])) return v['range'].map(partText).join('-');
  if (isObject(v['elem'])) return partText(v['elem']['val']);
  if (isObject(v['goto'])) return `goto ${String(v['goto']['target'])}`;
  if (isObject(v['jump'])) return `jump ${String(v['jump']['target'])}`;
  for (const verdict of ['drop', 'accept', 'return', 'continue']) if (verdict in v) return verdict;
  return JSON.stringify(v);
}

export interface ObservedTable extends TableContent {
  /** Chains that are there, with their rules, in one canonical text each. */
  readonly rules: ReadonlyMap<string, string>;
  /** The sets' own shapes. */
  readonly shapes: ReadonlyMap<string, string>;
}

const bodyOf = (o: NftObject): readonly [kind: string, body: Json] => Object.entries(o)[0] as [string, Json];
const textOf = (objects: readonly NftObject[]): string => canonicalTable({ family: 'inet', name: SERVICES_TABLE, objects });

/** The statement that fills a map from packets has no JSON: libnftables lists it as text. */
const plainRule = (o: NftObject): NftObject => {
  const { expr, handle: _, ...rest } = o['rule'] as { expr: readonly unknown[]; handle?: unknown };
  return { rule: { ...rest, expr: expr.map((e) => (typeof e === 'string' ? { statement: canonicalStatement(e) } : isObject(e) && typeof e['statement'] === 'string' ? { statement: canonicalStatement(e['statement']) } : e)) } };
};

/** `timeout 3h` and `timeout 10800s` are one. */
const canonicalStatement = (s: string): string => s.replace(/timeout ((?:\d+[dhms])+)/, (_, t: string) => `timeout ${secondsOf(t)}s`).replace(/\s+/g, ' ').trim();
const UNIT: Readonly<Record<string, number>> = { d: 86_400, h: 3600, m: 60, s: 1 };
export const secondsOf = (text: string): number => [...text.matchAll(/(\d+)([dhms])/g)].reduce((sum, [, n, u]) => sum + Number(n) * (UNIT[u!] ?? 0), 0);

/** Elements of a set or map as key and value; sets have empty values. */
export const elementMap = (kind: 'set' | 'map', list: readonly unknown[]): Map<string, string> =>
  new Map(list.map((e) => (kind === 'map' && Array.isArray(e) ? [partText(e[0]), partText(e[1])] : [partText(e), ''])));

/** How many connections each element has decided, by the element's key. */
export const elementCounters = (list: readonly unknown[]): Map<string, number> =>
  new Map(list.flatMap((e): [string, number][] => {
    const key: unknown = Array.isArray(e) ? e[0] : e;
    const counter = isObject(key) && isObject(key['elem']) ? key['elem']['counter'] : undefined;
    return isObject(counter) && typeof counter['packets'] === 'number' ? [[partText(key), counter['packets']]] : [];
  }));

/** @returns undefined when the table is not there */
export function observedTable(ruleset: readonly NftObject[]): ObservedTable | undefined {
  const ours = ruleset.filter((o) => {
    const [kind, body] = bodyOf(o);
    return body['family'] === 'inet' && (kind === 'table' ? body['name'] : body['table']) === SERVICES_TABLE;
  });
  if (ours.length === 0) return undefined;
  const elements = new Map<SetName, Map<string, string>>();
  const rules = new Map<string, NftObject[]>();
  const shapes = new Map<string, string>();
  for (const o of ours) {
    const [kind, body] = bodyOf(o);
    if (kind === 'chain') rules.set(String(body['name']), [o, ...(rules.get(String(body['name'])) ?? [])]);
    else if (kind === 'rule') rules.set(String(body['chain']), [...(rules.get(String(body['chain'])) ?? []), plainRule(o)]);
    else if (kind === 'set' || kind === 'map') {
      const { elem, ...shape } = body;
      shapes.set(String(body['name']), textOf([{ [kind]: shape }]));
      elements.set(String(body['name']) as SetName, elementMap(kind, (Array.isArray(elem) ? elem : []) as unknown[]));
    }
  }
  return { elements, chains: new Set([...rules.keys()].filter((c) => /^(stick-)?(any|here)-\d+$|^remember-\d+$/.test(c))), rules: new Map([...rules].map(([c, list]) => [c, textOf(list)])), shapes };
}

const formText = (c: ChainForms): string => textOf([chainObject(c), ...c.rules.map((r) => plainRule(ruleObject(c.name, r)))]);

export interface TableDrift {
  /** The shapes of sets, or chains at hooks, differ: nothing but the whole anew will do. */
  readonly whole: boolean;
  /** Chains whose rules are not what they should be. */
  readonly chains: readonly ChainForms[];
  /** Chains that are nobody's here. */
  readonly strange: readonly string[];
  readonly change: TableChange;
}

export function tableDrift(want: TableContent, have: ObservedTable | undefined, clusterCidrs: readonly string[]): TableDrift {
  const none = { elements: new Map(), chains: new Set<string>() };
  if (!have) return { whole: true, chains: [], strange: [], change: tableDifference(want, none) };
  const whole = setForms().some((s) => have.shapes.get(s.name) !== textOf([setObject(s)])) || have.shapes.size !== setForms().length;
  const base = baseChains(clusterCidrs);
  const shared = [...want.chains].filter((c) => have.chains.has(c)).map(chainForms);
  const hookless = (c: ChainForms): boolean => !have.rules.has(c.name) && c.base !== undefined;
  const known = new Set([...base.map((c) => c.name), ...have.chains]);
  return {
    whole: whole || base.some(hookless),
    chains: [...base, ...shared].filter((c) => have.rules.get(c.name) !== formText(c)),
    strange: [...have.rules.keys()].filter((c) => !known.has(c)),
    change: tableDifference(want, have),
  };
}

export const isClean = (d: TableDrift): boolean =>
  !d.whole && d.chains.length === 0 && d.strange.length === 0 && d.change.elements.length === 0 && d.change.chainsAdded.length === 0 && d.change.chainsRemoved.length === 0;

/** One line a difference, for reports. */
export function driftLines(d: TableDrift): { readonly finding: 'missing' | 'extra' | 'differs'; readonly object: string; readonly reason: string }[] {
  return [
    ...(d.whole && d.chains.length === 0 && d.change.elements.length === 0 ? [{ finding: 'differs' as const, object: `inet ${SERVICES_TABLE}`, reason: 'sets or chains of it have another shape' }] : []),
    ...d.chains.map((c) => ({ finding: 'differs' as const, object: `chain ${c.name}`, reason: 'its rules differ' })),
    ...d.strange.map((c) => ({ finding: 'extra' as const, object: `chain ${c}`, reason: 'no Service needs it' })),
    ...d.change.chainsAdded.map((c) => ({ finding: 'missing' as const, object: `chain ${c}`, reason: 'missing' })),
    ...d.change.chainsRemoved.map((c) => ({ finding: 'extra' as const, object: `chain ${c}`, reason: 'no Service needs it' })),
    ...d.change.elements.map((e) => ({
      finding: e.before === undefined ? ('missing' as const) : e.after === undefined ? ('extra' as const) : ('differs' as const),
      object: `${e.set} { ${e.key} }`,
      reason: e.before === undefined ? `must be ${e.after || 'there'}` : e.after === undefined ? `is ${e.before || 'there'}` : `is ${e.before}, must be ${e.after}`,
    })),
  ];
}

