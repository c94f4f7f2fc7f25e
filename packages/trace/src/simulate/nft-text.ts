/** A rule in nft's own words, from its JSON. What has no words here stays JSON, cut short. Source: nft(8), libnftables-json(5). */

type Json = Readonly<Record<string, unknown>>;
const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);
const LONGEST = 200;

/** The statements of a rule, as `nft list ruleset` would print them. */
export function ruleWords(expr: readonly unknown[]): string {
  const text = expr.map(statement).filter(Boolean).join(' ');
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text;
}

function statement(s: unknown): string {
  if (!isObject(s)) return typeof s === 'string' ? s : JSON.stringify(s);
  const kind = Object.keys(s)[0] ?? '';
  const body = s[kind];
  switch (kind) {
    case 'match': {
      const { op, left, right } = body as Json;
      const sign = op === '==' || op === 'in' ? '' : `${String(op)} `;
      return `${expression(left)} ${sign}${expression(right)}`;
    }
    case 'counter': return 'counter';
    case 'comment': return '';
    case 'accept':
    case 'drop':
    case 'return':
    case 'continue': return kind;
    case 'jump':
    case 'goto': return `${kind} ${String((body as Json)['target'])}`;
    case 'reject': return 'reject';
    case 'log': return 'log';
    case 'masquerade': return 'masquerade';
    case 'snat':
    case 'dnat':
    case 'redirect': {
      const { addr, port } = (body ?? {}) as Json;
      const to = `${addr === undefined ? '' : expression(addr)}${port === undefined ? '' : `:${expression(port)}`}`;
      return to ? `${kind} to ${to}` : kind;
    }
    case 'mangle': return `${expression((body as Json)['key'])} set ${expression((body as Json)['value'])}`;
    case 'vmap': return `${expression((body as Json)['key'])} vmap ${mapWords((body as Json)['data'])}`;
    case 'limit': {
      const { rate, per, inv } = body as Json;
      return `limit rate ${inv ? 'over ' : ''}${String(rate)}/${String(per)}`;
    }
    default: return expression(s);
  }
}

function mapWords(data: unknown): string {
  if (!isObject(data) || !Array.isArray(data['set'])) return expression(data);
  const pairs = (data['set'] as readonly unknown[]).map((p) => (Array.isArray(p) ? `${expression(p[0])} : ${statement(p[1])}` : expression(p)));
  return `{ ${pairs.join(', ')} }`;
}

function expression(e: unknown): string {
  if (typeof e === 'string' || typeof e === 'number' || typeof e === 'boolean') return String(e);
  if (Array.isArray(e)) return e.map(expression).join(',');
  if (!isObject(e)) return JSON.stringify(e);
  const kind = Object.keys(e)[0] ?? '';
  const body = e[kind];
  if (kind === '&' || kind === '|' || kind === '^') return (body as readonly unknown[]).map(expression).join(` ${kind} `);
  if (Array.isArray(body)) {
    if (kind === 'set') return `{ ${body.map(expression).join(', ')} }`;
    if (kind === 'concat') return body.map(expression).join(' . ');
    if (kind === 'range') return body.map(expression).join('-');
  }
  if (!isObject(body)) return JSON.stringify(e);
  switch (kind) {
    case 'payload': return `${String(body['protocol'])} ${String(body['field'])}`;
    case 'meta': return SHORT.has(String(body['key'])) ? String(body['key']) : `meta ${String(body['key'])}`;
    case 'ct': return `ct ${body['dir'] === undefined ? '' : `${String(body['dir'])} `}${String(body['key'])}`;
    case 'jhash': return `jhash ${expression(body['expr'])} mod ${String(body['mod'])}`;
    case 'prefix': return `${String(body['addr'])}/${String(body['len'])}`;
    case 'fib': return `fib ${[body['flags']].flat().join(' . ')} ${String(body['result'])}`;
    case 'elem': return expression(body['val']);
    case 'map': return `${expression(body['key'])} map ${mapWords(body['data'])}`;
    case 'numgen': return `numgen ${String(body['mode'])} mod ${String(body['mod'])}`;
    case 'jump':
    case 'goto': return `${kind} ${String(body['target'])}`;
    default: return JSON.stringify(e);
  }
}

/** Keys that nft prints without `meta`. */
const SHORT = new Set(['iifname', 'oifname', 'iif', 'oif']);
