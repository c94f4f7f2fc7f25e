/**
 * A NetnsState from JSON that somebody else wrote: a bundle, a saved observation, another version.
 *
 * What is missing and has a plain default is filled in; a whole list that is missing is also noted
 * under `unread`, since nobody knows whether it was empty. Fields this version does not know are
 * kept. Everything that is wrong is told at once, each with its place (`routes[3].dst`). A newer
 * schema is refused: its fields may mean something else.
 */
import { PodwayError } from '@podway/errors';
import { emptyState, type NetnsState } from './types.js';

export const STATE_SCHEMA = 1;

/** Looks at one value; returns it, with defaults filled in, and reports what is wrong. */
type Check = (value: unknown, where: string, wrong: string[]) => unknown;

const show = (v: unknown): string => (v === undefined ? 'missing' : `${JSON.stringify(v).slice(0, 40)} (${v === null ? 'null' : Array.isArray(v) ? 'a list' : typeof v === 'object' ? 'an object' : `a ${typeof v}`})`);
const must = (what: string, holds: (v: unknown) => boolean): Check => (v, where, wrong) => {
  if (!holds(v)) wrong.push(`${where}: must be ${what}, is ${show(v)}`);
  return v;
};

const text = must('a string', (v) => typeof v === 'string');
const name = must('a string that is not empty', (v) => typeof v === 'string' && v !== '');
const int = must('a whole number of at least 0', (v) => Number.isSafeInteger(v) && (v as number) >= 0);
const number = must('a number', (v) => typeof v === 'number' && Number.isFinite(v));
const bool = must('true or false', (v) => typeof v === 'boolean');
const family = must('"inet" or "inet6"', (v) => v === 'inet' || v === 'inet6');
const cidr = must('a prefix such as 10.0.0.0/8', (v) => typeof v === 'string' && /^[0-9a-f:.]+\/\d{1,3}$/i.test(v));
const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

const optional = (check: Check): Check => (v, where, wrong) => (v === undefined ? undefined : check(v, where, wrong));
const orElse = (check: Check, otherwise: unknown): Check => (v, where, wrong) => (v === undefined ? otherwise : check(v, where, wrong));
const list = (item: Check): Check => (v, where, wrong) => {
  if (Array.isArray(v)) return v.map((o, i) => item(o, `${where}[${i}]`, wrong));
  wrong.push(`${where}: must be a list, is ${show(v)}`);
  return [];
};
const object = (fields: Readonly<Record<string, Check>>): Check => (v, where, wrong) => {
  if (!isObject(v)) {
    wrong.push(`${where}: must be an object, is ${show(v)}`);
    return v;
  }
  const out: Record<string, unknown> = { ...v };
  for (const [key, check] of Object.entries(fields)) {
    const value = check(v[key], `${where}.${key}`, wrong);
    if (value !== undefined) out[key] = value;
  }
  return out;
};
const all = (check: Check, ...keys: readonly string[]): Record<string, Check> => Object.fromEntries(keys.map((k) => [k, check]));
const maybe = (check: Check, ...keys: readonly string[]): Record<string, Check> => all(optional(check), ...keys);

const MAIN_TABLE = 254;
const hop = object({ dev: name, weight: orElse(int, 1), ...maybe(text, 'gateway'), ...maybe(bool, 'onlink', 'dead', 'linkdown') });

const LISTS: Readonly<Record<string, Check>> = {
  links: object({
    ...all(name, 'name', 'kind'), up: bool, ...maybe(int, 'index', 'mtu'), ...maybe(text, 'address', 'operstate', 'master', 'alias', 'why'), ...maybe(bool, 'lowerUp', 'noArp'),
    peer: optional(object({ index: int, netnsid: optional(number) })),
    vxlan: optional(object({ ...all(int, 'vni', 'port'), learning: orElse(bool, false), ...maybe(text, 'local', 'dev'), ...maybe(bool, 'udpCsum'), ...maybe(int, 'ttl', 'df') })),
    wireguard: optional(object({ port: int, ...maybe(text, 'publicKey') })),
    tunnel: optional(object({ ...maybe(text, 'local', 'remote'), ...maybe(int, 'ttl') })),
    bridge: optional(object({ ...maybe(bool, 'stp', 'vlanFiltering', 'nfCallIptables', 'nfCallIp6tables', 'mcastSnooping'), ...maybe(number, 'ageingTime') })),
    port: optional(object({ ...maybe(text, 'state'), ...maybe(bool, 'hairpin', 'isolated', 'learning', 'flood', 'proxyArp', 'neighSuppress') })),
    counters: optional(object(all(number, 'rxPackets', 'txPackets', 'rxBytes', 'txBytes', 'rxErrors', 'txErrors', 'rxDropped', 'txDropped'))),
    shown: optional(object({ flags: list(text), running: bool, ...all(int, 'group', 'mode'), ...maybe(text, 'broadcast', 'qdisc'), ...maybe(int, 'txqlen'), altNames: optional(list(text)) })),
  }),
  addresses: object({ ...all(name, 'dev', 'address'), family, prefix: int, ...maybe(text, 'broadcast', 'scope', 'peer', 'label', 'why'), ...maybe(bool, 'dadFailed'), flags: optional(list(text)) }),
  routes: object({
    family, dst: cidr, type: orElse(name, 'unicast'), table: orElse(int, MAIN_TABLE), protocol: orElse(int, 0), metric: orElse(int, 0),
    ...maybe(text, 'scope', 'gateway', 'dev', 'prefsrc', 'pref', 'why'), ...maybe(int, 'tos', 'mtu'), ...maybe(bool, 'onlink', 'linkdown', 'dead'), nexthops: optional(list(hop)),
  }),
  rules: object({
    family, priority: int, action: orElse(name, 'lookup'), table: orElse(int, 0), ...maybe(text, 'src', 'dst', 'iif', 'oif', 'why'),
    ...maybe(int, 'fwmark', 'fwmask', 'ipProto', 'suppressPrefixLength', 'goto', 'protocol'), ...maybe(bool, 'invert'),
  }),
  neighbours: object({ dev: name, family, dst: name, state: orElse(name, 'none'), ...maybe(text, 'lladdr', 'why'), ...maybe(bool, 'proxy', 'router', 'extLearned') }),
  fdb: object({ ...all(name, 'dev', 'lladdr'), state: orElse(name, 'none'), self: orElse(bool, false), ...maybe(text, 'dst', 'master', 'via', 'why'), ...maybe(int, 'vlan', 'port', 'vni'), ...maybe(bool, 'extLearned') }),
  qdiscs: object({
    ...all(text, 'dev', 'kind', 'handle', 'parent'), ...maybe(text, 'redirect', 'why'), tbf: optional(object(all(number, 'rate', 'burst', 'limit'))),
  }),
  wireguardPeers: object({
    ...all(name, 'dev', 'publicKey'), allowedIps: orElse(list(cidr), []), keepalive: orElse(int, 0),
    ...maybe(text, 'endpoint', 'presharedKey', 'why'), ...maybe(number, 'lastHandshake', 'rxBytes', 'txBytes'),
  }),
  nft: (v, where, wrong) => {
    const [kind, body] = isObject(v) ? (Object.entries(v)[0] ?? []) : [];
    if (kind === undefined || !isObject(body)) wrong.push(`${where}: must be an nftables object such as {"table": {…}}, is ${show(v)}`);
    return v;
  },
};

const sysctls: Check = (v, where, wrong) => {
  if (!isObject(v)) {
    wrong.push(`${where}: must be an object, is ${show(v)}`);
    return {};
  }
  for (const [key, value] of Object.entries(v)) if (typeof value !== 'string') wrong.push(`${where}["${key}"]: must be a string, is ${show(value)}`);
  return v;
};

/**
 * @param json the text of a JSON document, or what was parsed from one.
 * @param from where it came from, for messages: a file's name.
 * @throws STATE_NEWER when it was written for a later schema; STATE_BAD with all that is wrong, each with its place.
 */
export function readState(json: unknown, from = 'network state'): NetnsState {
  const value = typeof json === 'string' ? parse(json, from) : json;
  if (!isObject(value)) throw bad(from, [`it must be an object, is ${show(value)}`]);
  const { schema } = value;
  if (typeof schema === 'number' && schema > STATE_SCHEMA) {
    throw new PodwayError('STATE_NEWER', `${from} has schema ${schema}, this version of Podway reads up to ${STATE_SCHEMA}`, {
      object: from, hint: 'Open it with the version of Podway that wrote it, or a newer one.',
    });
  }
  const wrong: string[] = [];
  if (schema !== STATE_SCHEMA) wrong.push(`schema: must be ${STATE_SCHEMA}, is ${show(schema)}`);
  const unread = orElse(list(text), [])(value['unread'], 'unread', wrong) as string[];
  const out: Record<string, unknown> = {
    ...value, schema: STATE_SCHEMA, netns: orElse(object({ id: orElse(text, ''), name: orElse(text, '') }), emptyState().netns)(value['netns'], 'netns', wrong),
  };
  const missing: string[] = [];
  for (const [key, item] of Object.entries(LISTS)) {
    if (key === 'wireguardPeers' && value[key] === undefined) continue;
    if (value[key] === undefined) missing.push(key);
    out[key] = value[key] === undefined ? [] : list(item)(value[key], key, wrong);
  }
  if (value['sysctls'] === undefined) missing.push('sysctls');
  out['sysctls'] = value['sysctls'] === undefined ? {} : sysctls(value['sysctls'], 'sysctls', wrong);
  if (wrong.length) throw bad(from, wrong);
  out['unread'] = [...unread, ...missing.map((key) => `${key}: not in ${from}`)];
  return out as unknown as NetnsState;
}

function parse(json: string, from: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch (cause) {
    throw new PodwayError('STATE_BAD', `${from} is not JSON`, { object: from, said: (cause as Error).message, cause });
  }
}

const SHOWN = 20;
const bad = (from: string, wrong: readonly string[]): PodwayError =>
  new PodwayError('STATE_BAD', `${from} is not a network state`, {
    object: from, said: [...wrong.slice(0, SHOWN), ...(wrong.length > SHOWN ? [`and ${wrong.length - SHOWN} more`] : [])].join('; '),
  });
