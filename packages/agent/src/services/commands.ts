/** From changes to nft's language: each list of commands is one transaction. Pure. */
import type { SetName } from './entries.js';
import { baseChains, chainForms, chainText, ruleText, setForms, setText, SERVICES_TABLE, type ChainForms } from './ruleset.js';
import type { ElementChange, TableChange, TableContent } from './table.js';
import { SET_NAMES } from './ruleset.js';

/** Sets whose elements are maps' : the value stands behind a colon. */
const elementText = (c: { key: string; value: string }): string => (c.value === '' ? c.key : `${c.key} : ${c.value}`);

const chainLines = (c: ChainForms): string[] => c.rules.map((r) => ruleText(c.name, r));

/** Chains that lead to others come after those. */
const inOrder = (names: readonly string[]): string[] => [...names].sort((a, b) => Number(a.startsWith('stick-')) - Number(b.startsWith('stick-')));

const elementLine = (verb: 'add' | 'delete', set: string, elements: readonly string[]): string[] =>
  elements.length ? [`${verb} element inet ${SERVICES_TABLE} ${set} { ${elements.join(', ')} }`] : [];

export function changeCommands(change: TableChange): string {
  const added = inOrder(change.chainsAdded).map(chainForms);
  const removed = inOrder(change.chainsRemoved).reverse();
  const bySet = new Map<SetName, ElementChange[]>();
  for (const e of change.elements) bySet.set(e.set, [...(bySet.get(e.set) ?? []), e]);
  return [
    ...added.map(chainText), ...added.flatMap(chainLines),
    ...[...bySet].flatMap(([set, list]) => elementLine('delete', set, list.filter((e) => e.before !== undefined).map((e) => e.key))),
    ...[...bySet].flatMap(([set, list]) => elementLine('add', set, list.filter((e) => e.after !== undefined).map((e) => elementText({ key: e.key, value: e.after! })))),
    ...removed.map((c) => `flush chain inet ${SERVICES_TABLE} ${c}`), ...removed.map((c) => `delete chain inet ${SERVICES_TABLE} ${c}`),
  ].join('\n');
}

/** The whole table, in place of whatever there is of it. What clients are remembered for (affinity) goes. */
export function wholeTable(content: TableContent, clusterCidrs: readonly string[]): string {
  const chains = [...baseChains(clusterCidrs), ...inOrder([...content.chains]).map(chainForms)];
  return [
    `add table inet ${SERVICES_TABLE}`, `delete table inet ${SERVICES_TABLE}`, `add table inet ${SERVICES_TABLE}`,
    ...setForms().map(setText), ...chains.map(chainText), ...chains.flatMap(chainLines),
    ...SET_NAMES.flatMap((set) => elementLine('add', set, [...(content.elements.get(set) ?? [])].map(([key, value]) => elementText({ key, value })))),
  ].join('\n');
}

/** These chains' rules anew: somebody altered them. */
export const mendChains = (chains: readonly ChainForms[]): string =>
  [...chains.map(chainText), ...chains.map((c) => `flush chain inet ${SERVICES_TABLE} ${c.name}`), ...chains.flatMap(chainLines)].join('\n');

export const removeTable = `add table inet ${SERVICES_TABLE}\ndelete table inet ${SERVICES_TABLE}`;
