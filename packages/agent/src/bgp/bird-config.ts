/**
 * BIRD 2 configuration as text, from plain data. Pure.
 *
 * Tables: `master4`/`master6` hold what BGP knows; `underlay4`/`underlay6` hold the connected routes of
 * the uplink and serve one purpose, to look up next hops: a route whose next hop is not on a connected
 * subnet is unresolved, loses against one that is, and never gets to the kernel.
 *
 * - Own blocks are announced from a static protocol; the blackhole route in the kernel is Podway's, so
 *   the kernel protocol takes routes of BGP and of nothing else.
 * - Routes in the kernel have metric 32 (BIRD's default): a route of another backend for the same
 *   range wins while it is there, which makes changing the backend a matter of order and not of luck.
 * - The kernel protocol is without `persist`: a speaker that is stopped on purpose clears up after itself. One that is
 *   killed leaves its routes, and is started again with `-R`: nothing is changed in the kernel until its peers have sent everything again.
 *
 * Cost: one session of the list is one TCP connection. Source: BIRD 2.0 user's guide, RFC 4456, RFC 4724, RFC 2385.
 */
import { formatCidr, parseCidr } from '@podway/cni';
import { familyOf } from '../node/addresses.js';
import type { BgpTimers, Family, ImportRule } from './settings.js';

export type SessionType = 'mesh' | 'rr' | 'client' | 'external';

export interface Session {
  /** `mesh`: between nodes; `rr`: to a reflector, or between two; `client`: of a reflector to a node; `external`: to a router that is no node. */
  readonly type: SessionType;
  readonly family: Family;
  /** Whose it is, for people: `node m2`. */
  readonly peer: string;
  readonly address: string;
  readonly asn: number;
  readonly password?: string;
  /** `node`: blocks of the cluster that are not ours. */
  readonly import: ImportRule;
  /** `own`: own blocks only. `reflect`: and what other nodes announced. `all`: everything BGP knows (routers). */
  readonly export: 'own' | 'reflect' | 'all';
  readonly multihop?: number;
  /** Waits to be spoken to: routers of nodes that may not speak at all. */
  readonly passive?: boolean;
}

export interface Speaker {
  /** For the first line. */
  readonly name: string;
  /** An IPv4 address, or four numbers that look like one. */
  readonly routerId: string;
  readonly asn: number;
  /** The address it speaks from. Without one, that of the link to the peer (routers have several). */
  readonly local: Partial<Readonly<Record<Family, string>>>;
  /** Devices whose connected routes resolve next hops; `*` for all. */
  readonly uplinks: readonly string[];
  readonly clusterCidrs: readonly string[];
  readonly blocks: readonly string[];
  readonly clusterId?: string;
  readonly timers: BgpTimers;
  readonly sessions: readonly Session[];
}

/**
 * Seconds that a speaker which was killed waits for all its peers before it takes the kernel's routes in hand again. Those
 * that live answer within two; for those that do not, everybody else's changes must not wait long.
 */
const LONGEST_RECOVERY = 30;

const FAMILIES = [
  { family: 'inet', n: '4', channel: 'ipv4', bits: 32, any: '0.0.0.0/0' },
  { family: 'inet6', n: '6', channel: 'ipv6', bits: 128, any: '::/0' },
] as const;
type Numbered = (typeof FAMILIES)[number];

/** `mesh_172_18_0_3`: which session a protocol is can be read from its name; colons and dots never collide. */
export const protocolName = (s: Pick<Session, 'type' | 'address'>): string => `${s.type}_${s.address.replace(/[.:]/g, '_')}`;

const within = (cidrs: readonly string[], f: Numbered): string =>
  cidrs.filter((c) => familyOf(c) === f.family).map(parseCidr).map((c) => `${formatCidr(c)}{${c.prefix},${f.bits}}`).join(', ');

/** The sets that the filters of a family ask, each a define, and whether there is one. */
function sets(s: Speaker, f: Numbered): { text: string; cluster: boolean; own: boolean } {
  const cluster = within(s.clusterCidrs, f);
  const own = within(s.blocks, f);
  return {
    text: [cluster && `define CLUSTER${f.n} = [ ${cluster} ];`, own && `define OWN${f.n} = [ ${own} ];`].filter(Boolean).join('\n'),
    cluster: cluster !== '', own: own !== '',
  };
}

function importFilter(rule: ImportRule, s: Speaker, f: Numbered): string {
  const { cluster, own } = sets(s, f);
  // What is ours is never learnt from others, whoever announces it.
  const lines = own ? [`if net ~ OWN${f.n} then reject;`] : [];
  if (rule === 'all') lines.push('accept;');
  else if (typeof rule === 'object') {
    const ranges = within(rule, f);
    lines.push(...(ranges ? [`if net ~ [ ${ranges} ] then accept;`] : []), 'reject;');
  } else {
    if (rule !== 'none' && cluster) lines.push(`if net ~ CLUSTER${f.n} then accept;`);
    if (rule === 'default') lines.push(`if net = ${f.any} then accept;`);
    lines.push('reject;');
  }
  return `filter { ${lines.join(' ')} }`;
}

function exportFilter(how: Session['export'], s: Speaker, f: Numbered): string {
  const own = sets(s, f).own ? [`if proto = "own${f.n}" then accept;`] : [];
  const more = how === 'own' ? [] : how === 'reflect' ? ['if source = RTS_BGP && proto !~ "external_*" then accept;'] : ['if source = RTS_BGP then accept;'];
  return `filter { ${[...own, ...more, 'reject;'].join(' ')} }`;
}

const block = (head: string, lines: readonly (string | false | undefined)[]): string =>
  `${head} {\n${lines.filter((l): l is string => typeof l === 'string' && l !== '').map((l) => `\t${l.replaceAll('\n', '\n\t')}`).join('\n')}\n}`;

const quote = (text: string): string => `"${text.replace(/[^\x20-\x7e]|"/g, '?')}"`;

/** What all sessions of one kind have in common is a template; its key says what differs. */
interface Kind {
  readonly name: string;
  readonly of: Session;
}
const kindKey = (x: Session): string => JSON.stringify([x.type, x.family, x.import, x.export, x.multihop ?? 0, x.type === 'external' ? x.asn : 0]);

function kinds(s: Speaker): Map<string, Kind> {
  const found = new Map<string, Kind>();
  const counts = new Map<string, number>();
  for (const x of s.sessions) {
    const key = kindKey(x);
    if (found.has(key)) continue;
    const base = `${x.type}${x.family === 'inet' ? '4' : '6'}`;
    const count = (counts.get(base) ?? 0) + 1;
    counts.set(base, count);
    found.set(key, { name: count === 1 ? `any_${base}` : `any_${base}_${count}`, of: x });
  }
  return found;
}

function template(k: Kind, s: Speaker): string {
  const { of } = k;
  const f = FAMILIES.find((x) => x.family === of.family)!;
  const internal = of.asn === s.asn;
  const external = of.type === 'external';
  // Nodes look up next hops themselves, across any number of routers. A router beside them is its own next hop.
  const far = !external || of.multihop !== undefined;
  return block(`template bgp ${k.name}`, [
    `local ${s.local[of.family] === undefined ? '' : `${s.local[of.family]} `}as ${s.asn};`,
    far ? `multihop${of.multihop === undefined ? '' : ` ${of.multihop}`};` : 'direct;',
    of.type === 'client' && 'rr client;',
    of.export === 'reflect' && s.clusterId !== undefined && `rr cluster id ${s.clusterId};`,
    // Racks share an AS number, and routers hand the routes of one to the other.
    external && !internal && of.export === 'own' && 'allow local as 1;',
    `hold time ${s.timers.hold};`,
    `startup hold time ${Math.max(s.timers.hold, 10)};`,
    `keepalive time ${s.timers.keepalive};`,
    'connect delay time 1;',
    `connect retry time ${Math.min(5, s.timers.hold)};`,
    `error wait time 1, ${Math.min(30, s.timers.hold)};`,
    'graceful restart on;',
    `graceful restart time ${s.timers.restart};`,
    block(f.channel, [
      `igp table underlay${f.n};`,
      far ? 'gateway recursive;' : 'gateway direct;',
      `import ${importFilter(of.import, s, f)};`,
      `export ${exportFilter(of.export, s, f)};`,
    ]) + ';',
  ]);
}

function familyPart(f: Numbered, s: Speaker): string[] {
  const own = s.blocks.filter((b) => familyOf(b) === f.family);
  return [
    sets(s, f).text,
    `${f.channel} table underlay${f.n};`,
    block(`protocol direct uplink${f.n}`, [
      `${f.channel} { table underlay${f.n}; import all; };`,
      `interface ${s.uplinks.map(quote).join(', ')};`,
    ]),
    own.length ? block(`protocol static own${f.n}`, [`${f.channel};`, ...own.map((b) => `route ${formatCidr(parseCidr(b))} blackhole;`)]) : '',
    block(`protocol kernel kernel${f.n}`, [
      'learn off;',
      'scan time 10;',
      'graceful restart on;',
      block(f.channel, ['import none;', 'export filter { if source = RTS_BGP && dest = RTD_UNICAST then accept; reject; };']) + ';',
    ]),
  ].filter(Boolean);
}

/** The whole configuration. The same speaker always gives the same text. */
export function birdConfig(s: Speaker): string {
  const all = kinds(s);
  const sessions = [...s.sessions].sort((a, b) => (protocolName(a) < protocolName(b) ? -1 : 1));
  return [
    `# The BGP speaker of ${s.name.replace(/[^\x20-\x7e]/g, '?')}. Written by podway: what is changed here by hand is lost.`,
    [
      'log stderr { info, warning, error, auth, fatal, bug, remote };',
      'timeformat protocol iso long;',
      'timeformat route iso long;',
      'timeformat base iso long;',
      'timeformat log iso long;',
      `router id ${s.routerId};`,
      `graceful restart wait ${Math.min(s.timers.restart, LONGEST_RECOVERY)};`,
    ].join('\n'),
    block('protocol device', ['scan time 10;']),
    ...FAMILIES.filter((f) => s.local[f.family] !== undefined || s.sessions.some((x) => x.family === f.family)).flatMap((f) => familyPart(f, s)),
    ...[...all.values()].map((k) => template(k, s)),
    ...sessions.map((x) =>
      block(`protocol bgp ${protocolName(x)} from ${all.get(kindKey(x))!.name}`, [
        `description ${quote(x.peer)};`,
        `neighbor ${x.address} as ${x.asn};`,
        x.password !== undefined && `password ${quote(x.password)};`,
        x.passive === true && 'passive on;',
      ]),
    ),
    '',
  ].join('\n\n').replace(/\n+$/, '\n');
}
