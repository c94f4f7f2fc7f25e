/**
 * The table as it should be: which elements every Service wants, joined. A Service that changes is taken out
 * and put in again, and what comes of it is a handful of element changes, whatever the number of Services.
 *
 * Two Services may want one key (one external address, say): the older one has it, and the other is told of.
 * Pure data; no kernel.
 */
import type { Entry, SetName } from './entries.js';
import { SET_NAMES, chainsBehind } from './ruleset.js';

export interface ElementChange {
  readonly set: SetName;
  readonly key: string;
  readonly before: string | undefined;
  readonly after: string | undefined;
}

export interface TableChange {
  readonly elements: readonly ElementChange[];
  readonly chainsAdded: readonly string[];
  readonly chainsRemoved: readonly string[];
}

interface Claim {
  readonly owner: string;
  readonly value: string;
}

/** What others can read of a table, made or read from the kernel. */
export interface TableContent {
  readonly elements: ReadonlyMap<SetName, ReadonlyMap<string, string>>;
  readonly chains: ReadonlySet<string>;
}

const targetOf = (value: string): string | undefined => (value.startsWith('goto ') && value !== 'goto refuse' ? value.slice(5) : undefined);

export class ServiceTable implements TableContent {
  readonly elements: ReadonlyMap<SetName, Map<string, string>> = new Map(SET_NAMES.map((n) => [n, new Map<string, string>()]));
  private readonly owned = new Map<string, readonly Entry[]>();
  /** Keys that more than one Service wants, oldest owner first. */
  private readonly contested = new Map<string, Claim[]>();
  private readonly holders = new Map<SetName, Map<string, string>>(SET_NAMES.map((n) => [n, new Map()]));
  private readonly references = new Map<string, number>();

  get chains(): ReadonlySet<string> {
    return new Set(this.references.keys());
  }

  get owners(): number {
    return this.owned.size;
  }

  /**
   * @param owner sorts by age: what is older wins, so `2026-01-01T00:00:00Z default/web`
   * @param entries of that Service now; none when it is gone
   */
  put(owner: string, entries: readonly Entry[]): TableChange {
    const touched = new Map<string, { set: SetName; key: string; before: string | undefined }>();
    const touch = (e: Entry): void => {
      const id = `${e.set} ${e.key}`;
      if (!touched.has(id)) touched.set(id, { set: e.set, key: e.key, before: this.elements.get(e.set)!.get(e.key) });
    };
    for (const e of this.owned.get(owner) ?? []) {
      touch(e);
      this.release(owner, e);
    }
    for (const e of entries) {
      touch(e);
      this.claim(owner, e);
    }
    if (entries.length) this.owned.set(owner, entries);
    else this.owned.delete(owner);

    const elements: ElementChange[] = [];
    const before = new Set(this.references.keys());
    for (const t of touched.values()) {
      const after = this.elements.get(t.set)!.get(t.key);
      if (after === t.before) continue;
      elements.push({ ...t, after });
    }
    for (const c of elements) {
      this.refer(c.after, 1);
      this.refer(c.before, -1);
    }
    return {
      elements,
      chainsAdded: [...this.references.keys()].filter((c) => !before.has(c)),
      chainsRemoved: [...before].filter((c) => !this.references.has(c)),
    };
  }

  /** Services that do not get what they want, with who has it. */
  conflicts(): { readonly owner: string; readonly set: SetName; readonly key: string; readonly holder: string }[] {
    return [...this.contested].flatMap(([id, claims]) => {
      const [first] = claims;
      const at = id.indexOf(' ');
      return claims.filter((c) => c !== first && c.value !== first!.value).map((c) => ({ owner: c.owner, set: id.slice(0, at) as SetName, key: id.slice(at + 1), holder: first!.owner }));
    });
  }

  private claim(owner: string, e: Entry): void {
    const values = this.elements.get(e.set)!;
    const holders = this.holders.get(e.set)!;
    const id = `${e.set} ${e.key}`;
    const holder = holders.get(e.key);
    const list = this.contested.get(id);
    if (holder === undefined || (holder === owner && !list)) {
      holders.set(e.key, owner);
      values.set(e.key, e.value);
      return;
    }
    const claims = list ?? [{ owner: holder, value: values.get(e.key)! }];
    if (!claims.some((c) => c.owner === owner)) claims.push({ owner, value: e.value });
    this.settle(id, e, claims.sort((a, b) => (a.owner < b.owner ? -1 : 1)));
  }

  private release(owner: string, e: Entry): void {
    const id = `${e.set} ${e.key}`;
    const list = this.contested.get(id);
    if (list) this.settle(id, e, list.filter((c) => c.owner !== owner));
    else if (this.holders.get(e.set)!.get(e.key) === owner) {
      this.holders.get(e.set)!.delete(e.key);
      this.elements.get(e.set)!.delete(e.key);
    }
  }

  private settle(id: string, e: Entry, claims: Claim[]): void {
    const [first] = claims;
    if (claims.length > 1) this.contested.set(id, claims);
    else this.contested.delete(id);
    if (!first) {
      this.holders.get(e.set)!.delete(e.key);
      this.elements.get(e.set)!.delete(e.key);
      return;
    }
    this.holders.get(e.set)!.set(e.key, first.owner);
    this.elements.get(e.set)!.set(e.key, first.value);
  }

  private refer(value: string | undefined, by: 1 | -1): void {
    const target = value === undefined ? undefined : targetOf(value);
    if (target === undefined) return;
    for (const chain of [...chainsBehind(target), target]) {
      const n = (this.references.get(chain) ?? 0) + by;
      if (n > 0) this.references.set(chain, n);
      else this.references.delete(chain);
    }
  }
}

/** What leads from one content to another. */
export function tableDifference(want: TableContent, have: TableContent): TableChange {
  const elements: ElementChange[] = [];
  for (const set of SET_NAMES) {
    const [w, h] = [want.elements.get(set), have.elements.get(set)];
    for (const [key, after] of w ?? []) {
      const before = h?.get(key);
      if (before !== after) elements.push({ set, key, before, after });
    }
    for (const [key, before] of h ?? []) if (!w?.has(key)) elements.push({ set, key, before, after: undefined });
  }
  return {
    elements,
    chainsAdded: [...want.chains].filter((c) => !have.chains.has(c)),
    chainsRemoved: [...have.chains].filter((c) => !want.chains.has(c)),
  };
}
