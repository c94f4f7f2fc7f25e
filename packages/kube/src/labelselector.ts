/**
 * Label selectors: the text form (`app=web,tier in (a,b),!old`) and the object form
 * (matchLabels, matchExpressions), parsed into one list of requirements that is matched purely.
 *
 * Source: k8s.io/apimachinery/pkg/labels (grammar and semantics). Notable: `!=` and `notin`
 * also match objects that lack the key; `key` and `!key` ask for presence only.
 */
import { PodwayError } from '@podway/errors';
import type { LabelSelector } from 'kubernetes-types/meta/v1.js';
import { labelValueErrors, qualifiedNameErrors } from './names.js';

export type Labels = Readonly<Record<string, string>>;
export type LabelOperator = 'in' | 'notin' | 'exists' | 'absent' | 'gt' | 'lt';

export interface LabelRequirement {
  readonly key: string;
  readonly operator: LabelOperator;
  /** Empty for `exists` and `absent`, one integer for `gt` and `lt`. */
  readonly values: readonly string[];
}

const bad = (text: string, why: string): PodwayError =>
  new PodwayError('KUBE_SELECTOR', `unable to parse requirement`, { object: `label selector "${text}"`, said: why });

interface Token {
  readonly text: string;
  /** Symbols are `(` `)` `,` `!` `=` `==` `!=` `<` `>`; everything else is a word. */
  readonly symbol: boolean;
}

function* tokens(text: string): Generator<Token> {
  const pattern = /\s*(==|!=|[(),!=<>]|[^\s(),!=<>]+)/gy;
  for (let m = pattern.exec(text); m !== null; m = pattern.exec(text)) {
    const t = m[1] ?? '';
    yield { text: t, symbol: /^[(),!=<>]/.test(t) };
  }
}

/** Throws KUBE_SELECTOR with Kubernetes' words. The empty text selects everything. */
export function parseLabelSelector(text: string): LabelRequirement[] {
  const list = [...tokens(text)];
  const out: LabelRequirement[] = [];
  let at = 0;
  const peek = (): Token | undefined => list[at];
  const describe = (t: Token | undefined): string => (t === undefined ? '' : t.text);
  const word = (expected: string): string => {
    const t = list[at++];
    if (t === undefined || t.symbol) throw bad(text, `found '${describe(t)}', expected: ${expected}`);
    return t.text;
  };
  const value = (): string => {
    const t = peek();
    if (t === undefined || t.symbol) return '';
    at++;
    return t.text;
  };
  while (at < list.length) {
    out.push(check(text, requirement()));
    const t = list[at];
    if (t === undefined) break;
    if (t.text !== ',') throw bad(text, `found '${t.text}', expected: ',' or 'end of string'`);
    at++;
    if (at >= list.length) throw bad(text, "found '', expected: identifier after ','");
  }
  return out;

  function requirement(): LabelRequirement {
    if (peek()?.text === '!' && peek()?.symbol === true) {
      at++;
      return { key: word('identifier'), operator: 'absent', values: [] };
    }
    const key = word('!, identifier, or \'end of string\'');
    const op = peek();
    if (op === undefined || op.text === ',') return { key, operator: 'exists', values: [] };
    at++;
    switch (op.text) {
      case '=':
      case '==':
        return { key, operator: 'in', values: [value()] };
      case '!=':
        return { key, operator: 'notin', values: [value()] };
      case '>':
        return { key, operator: 'gt', values: [value()] };
      case '<':
        return { key, operator: 'lt', values: [value()] };
      case 'in':
      case 'notin':
        return { key, operator: op.text, values: set() };
      default:
        throw bad(text, `found '${op.text}', expected: in, notin, =, ==, !=, gt, lt`);
    }
  }

  function set(): string[] {
    const open = list[at++];
    if (open?.text !== '(') throw bad(text, `found '${describe(open)}' expected: '('`);
    const values: string[] = [];
    for (;;) {
      values.push(value());
      const t = list[at++];
      if (t?.text === ')') break;
      if (t?.text !== ',') throw bad(text, `found '${describe(t)}', expected: ',' or ')'`);
    }
    return [...new Set(values)];
  }
}

function check(text: string, r: LabelRequirement): LabelRequirement {
  const [keyError] = qualifiedNameErrors(r.key);
  if (keyError !== undefined) throw bad(text, `key: Invalid value: "${r.key}": ${keyError}`);
  if (r.operator === 'gt' || r.operator === 'lt') {
    if (!/^-?\d+$/.test(r.values[0] ?? '')) {
      throw bad(text, `values[0]: Invalid value: "${r.values[0] ?? ''}": for 'Gt', 'Lt' operators, the value must be an integer`);
    }
    return r;
  }
  r.values.forEach((v, i) => {
    const [error] = labelValueErrors(v);
    if (error !== undefined) throw bad(text, `values[${String(i)}][${r.key}]: Invalid value: "${v}": ${error}`);
  });
  return r;
}

/** The object form, as in NetworkPolicy and Deployment. `undefined` selects nothing, `{}` everything. */
export function labelSelectorRequirements(selector: LabelSelector): LabelRequirement[] {
  const out: LabelRequirement[] = Object.entries(selector.matchLabels ?? {}).map(([key, v]) => ({ key, operator: 'in', values: [v] }));
  for (const e of selector.matchExpressions ?? []) {
    const text = JSON.stringify(e);
    const values = e.values ?? [];
    const operators: Partial<Record<string, LabelOperator>> = { In: 'in', NotIn: 'notin', Exists: 'exists', DoesNotExist: 'absent' };
    const operator = operators[e.operator];
    if (operator === undefined) throw bad(text, `"${e.operator}" is not a valid label selector operator`);
    const wantsValues = operator === 'in' || operator === 'notin';
    if (wantsValues && values.length === 0) throw bad(text, `values: Required value: must be specified when \`operator\` is 'In' or 'NotIn'`);
    if (!wantsValues && values.length > 0) throw bad(text, `values: Forbidden: may not be specified when \`operator\` is 'Exists' or 'DoesNotExist'`);
    out.push(check(text, { key: e.key, operator, values }));
  }
  return out;
}

export function matchesLabels(requirements: readonly LabelRequirement[], labels: Labels | undefined): boolean {
  return requirements.every((r) => matchesOne(r, labels ?? {}));
}

function matchesOne(r: LabelRequirement, labels: Labels): boolean {
  const has = Object.hasOwn(labels, r.key);
  const value = labels[r.key] ?? '';
  switch (r.operator) {
    case 'in':
      return has && r.values.includes(value);
    case 'notin':
      return !has || !r.values.includes(value);
    case 'exists':
      return has;
    case 'absent':
      return !has;
    case 'gt':
      return has && /^-?\d+$/.test(value) && BigInt(value) > BigInt(r.values[0] ?? '0');
    case 'lt':
      return has && /^-?\d+$/.test(value) && BigInt(value) < BigInt(r.values[0] ?? '0');
  }
}

/** The text form of requirements; `parseLabelSelector` reads it back to the same list. */
export function formatLabelSelector(requirements: readonly LabelRequirement[]): string {
  return requirements
    .map((r) => {
      switch (r.operator) {
        case 'in':
          return r.values.length === 1 ? `${r.key}=${r.values[0] ?? ''}` : `${r.key} in (${r.values.join(',')})`;
        case 'notin':
          return r.values.length === 1 ? `${r.key}!=${r.values[0] ?? ''}` : `${r.key} notin (${r.values.join(',')})`;
        case 'exists':
          return r.key;
        case 'absent':
          return `!${r.key}`;
        case 'gt':
          return `${r.key}>${r.values[0] ?? ''}`;
        case 'lt':
          return `${r.key}<${r.values[0] ?? ''}`;
      }
    })
    .join(',');
}
