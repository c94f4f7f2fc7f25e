/**
 * The rules of a node that have to do with one Service, in the order a packet meets them, each with the elements
 * of that Service in the sets it asks. Pure, from nftables' listing.
 */
import { elementCounters, type Entry } from '@podway/agent';
import type { NftObject } from '@podway/kernel';
import { ruleWords } from '@podway/trace';

export interface RuleView {
  readonly hook: string | undefined;
  readonly chain: string;
  readonly rule: string;
  readonly elements: readonly { readonly set: string; readonly element: string; readonly connections: number | undefined }[];
}

interface Chain {
  readonly name: string;
  readonly hook?: string;
  readonly prio?: number;
  readonly type?: string;
}

/** Hooks in the order of a packet; of equal ones by priority. */
const HOOKS = ['prerouting', 'output', 'postrouting'];

export function explainRules(listed: readonly NftObject[], entries: readonly Entry[]): RuleView[] {
  const chains = new Map(listed.flatMap((o) => (o['chain'] ? [[String(o['chain']['name']), o['chain'] as unknown as Chain] as const] : [])));
  const counters = new Map(listed.flatMap((o) => {
    const body = o['map'] ?? o['set'];
    return body && Array.isArray(body['elem']) ? [[String(body['name']), elementCounters(body['elem'] as unknown[])] as const] : [];
  }));
  const rulesOf = (chain: string) => listed.flatMap((o) => (o['rule']?.['chain'] === chain ? [o['rule'] as { readonly expr: readonly unknown[]; readonly comment?: string }] : []));
  const done = new Set<string>();
  const out: RuleView[] = [];
  const walk = (name: string): void => {
    const chain = chains.get(name);
    if (!chain || done.has(name)) return;
    done.add(name);
    const next = new Set<string>();
    for (const r of rulesOf(name)) {
      const text = JSON.stringify(r.expr);
      const sets = [...new Set([...text.matchAll(/@([a-z]+[46])/g)].map((m) => m[1]!))];
      const mine = entries.filter((e) => (sets as string[]).includes(e.set));
      const targets = [...text.matchAll(/"(?:jump|goto)":\{"target":"([^"]+)"/g)].map((m) => m[1]!);
      // A rule that asks only sets in which this Service has nothing says nothing of it.
      if (sets.length && mine.length === 0 && !sets.includes('affinity4')) continue;
      out.push({
        chain: name, hook: chain.hook === undefined ? undefined : `${chain.type ?? ''} hook ${chain.hook} priority ${chain.prio ?? 0}`,
        rule: `${ruleWords(r.expr)}${r.comment === undefined ? '' : `   # ${r.comment}`}`,
        elements: mine.map((e) => ({ set: e.set, element: e.value === '' ? e.key : `${e.key} : ${e.value}`, connections: counters.get(e.set)?.get(e.key) })),
      });
      for (const t of [...targets, ...mine.flatMap((e) => (e.value.startsWith('goto ') ? [e.value.slice(5)] : []))]) next.add(t);
    }
    for (const t of next) walk(t);
  };
  const base = [...chains.values()].filter((c) => c.hook !== undefined).sort((a, b) => HOOKS.indexOf(a.hook!) - HOOKS.indexOf(b.hook!) || (a.prio ?? 0) - (b.prio ?? 0));
  for (const c of base) walk(c.name);
  return out;
}
