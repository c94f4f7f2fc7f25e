/**
 * The chains of the table for Services, and the sets they ask. Pure. Their number depends on how many
 * different counts of endpoints and time-outs there are, never on the number of Services.
 *
 * Every rule is held in both of nft's forms: the text it is made with (libnftables' JSON has no statement
 * for maps that packets fill) and the JSON it is listed as. A test in a real namespace holds the two together.
 *
 * The index drawn by `numgen` travels in skb->priority and not in the packet's mark: marks are what routing
 * rules go by, and a first packet with a mark of 1 or 2 could leave by somebody's table 1 or 2. The priority of
 * forwarded packets is set anew from their TOS after this; of a host's own first packet it is a number below
 * 32768, which as a class has the major part 0 and so names none.
 *
 * IPv6 clients of a Service with affinity are spread by a hash of their address: what libnftables 1.0 makes of a
 * map filled by packets with keys of this length is an assertion that ends the program. So they keep their
 * endpoint as long as the endpoints are the same, and need no time-out.
 *
 * Source: nft(8), libnftables-json(5), net/ipv4/ip_forward.c; netlink_linearize.c (get_register of a set element).
 */
import { parseCidr, cidrFirst, formatIp } from '@podway/cni';
import type { NftObject } from '@podway/kernel';
import { LOCAL_OFFSET, SETS, type SetKind, type SetName } from './entries.js';

export const SERVICES_TABLE = 'podway-services';
export const TABLE = { family: 'inet', name: SERVICES_TABLE } as const;

export interface RuleForms {
  readonly text: string;
  readonly expr: readonly unknown[];
  readonly comment?: string;
}

export interface ChainForms {
  readonly name: string;
  readonly base?: { readonly type: 'nat' | 'filter'; readonly hook: string; readonly prio: number };
  readonly rules: readonly RuleForms[];
}

interface SetForm {
  readonly name: string;
  readonly type: readonly string[];
  /** Of maps: what they lead to. */
  readonly map?: string;
  readonly flags?: readonly string[];
  readonly size?: number;
  /** Every element counts the first packets of connections that it decided. */
  readonly counter?: true;
}

const FAMILIES = [4, 6] as const;
const address = (f: 4 | 6): string => (f === 4 ? 'ipv4_addr' : 'ipv6_addr');

const shapeOf = (kind: SetKind, f: 4 | 6): Omit<SetForm, 'name'> => {
  const triple = [address(f), 'inet_proto', 'inet_service'];
  switch (kind) {
    case 'services': case 'outside': case 'refused': return { type: triple, map: 'verdict', counter: true };
    case 'affine': return { type: triple, map: 'verdict' };
    case 'endpoints': return { type: [...triple, 'classid'], map: `${address(f)} . inet_service`, counter: true };
    case 'clusterips': return { type: [address(f)] };
    case 'loops': return { type: [address(f), address(f)] };
    case 'allowed': return { type: [...triple, address(f)], flags: ['interval'] };
    case 'external': case 'preserved': case 'guarded': return { type: triple };
  }
};

export const AFFINITY = 'affinity4';
export const AFFINITY_SIZE = 262_144;
/** Sets that are filled from Services, and those that packets fill. */
export const setForms = (): SetForm[] => [
  ...FAMILIES.flatMap((f) => SETS.map((kind): SetForm => ({ name: `${kind}${f}`, ...shapeOf(kind, f) }))),
  { name: AFFINITY, type: ['ipv4_addr', 'inet_proto', 'inet_service', 'ipv4_addr'], map: 'ipv4_addr . inet_service', flags: ['timeout'], size: AFFINITY_SIZE },
];

export const SET_NAMES: readonly SetName[] = FAMILIES.flatMap((f) => SETS.map((kind): SetName => `${kind}${f}`));

export const setText = (s: SetForm): string => {
  const parts = [`type ${s.type.join(' . ')}${s.map === undefined ? '' : ` : ${s.map}`}`, ...(s.size === undefined ? [] : [`size ${s.size}`]), ...(s.flags ? [`flags ${s.flags.join(',')}`] : []), ...(s.counter ? ['counter'] : [])];
  return `add ${s.map === undefined ? 'set' : 'map'} inet ${SERVICES_TABLE} ${s.name} { ${parts.join('; ')}; }`;
};

export const setObject = (s: SetForm): NftObject => {
  const body = { family: 'inet', table: SERVICES_TABLE, name: s.name, type: s.type.length === 1 ? s.type[0]! : [...s.type], ...(s.size === undefined ? {} : { size: s.size }), ...(s.flags ? { flags: [...s.flags] } : {}), ...(s.counter ? { stmt: [{ counter: null }] } : {}) };
  return s.map === undefined ? { set: body } : { map: { ...body, map: s.map } };
};

// Expressions, in both forms.
interface Both { readonly text: string; readonly json: unknown }
const payload = (protocol: string, field: string): Both => ({ text: `${protocol} ${field}`, json: { payload: { protocol, field } } });
const meta = (key: string): Both => ({ text: `meta ${key}`, json: { meta: { key } } });
const original = (key: string): Both => ({ text: `ct original ${key}`, json: { ct: { key, dir: 'original' } } });
const concat = (...parts: readonly Both[]): Both => ({ text: parts.map((p) => p.text).join(' . '), json: { concat: parts.map((p) => p.json) } });
const ip = (f: 4 | 6): string => (f === 4 ? 'ip' : 'ip6');
const saddr = (f: 4 | 6): Both => payload(ip(f), 'saddr');
const daddr = (f: 4 | 6): Both => payload(ip(f), 'daddr');
const L4 = meta('l4proto');
const DPORT = payload('th', 'dport');
const frontend = (f: 4 | 6): Both => concat(daddr(f), L4, DPORT);
const frontendWith = (f: 4 | 6, more: Both): Both => concat(daddr(f), L4, DPORT, more);
/** What a translated packet was sent to. */
const asked = (f: 4 | 6): Both => concat(original(`${ip(f)} daddr`), L4, original('proto-dst'));

const match = (left: Both, right: string, op = '=='): Both => ({ text: `${left.text} ${op === '==' || op === 'in' ? '' : `${op} `}${right}`, json: { match: { op, left: left.json, right } } });
const rule = (parts: readonly Both[], comment?: string): RuleForms => ({ text: parts.map((p) => p.text).join(' '), expr: parts.map((p) => p.json), ...(comment === undefined ? {} : { comment }) });
const vmap = (key: Both, name: string): Both => ({ text: `${key.text} vmap @${name}`, json: { vmap: { key: key.json, data: `@${name}` } } });
const jump = (target: string): Both => ({ text: `jump ${target}`, json: { jump: { target } } });
const goto = (target: string): Both => ({ text: `goto ${target}`, json: { goto: { target } } });
const dnat = (f: 4 | 6, key: Both, map: string): Both => ({
  text: `dnat ${ip(f)} to ${key.text} map @${map}`, json: { dnat: { family: ip(f), addr: { map: { key: key.json, data: `@${map}` } } } },
});
const MASQUERADE: Both = { text: 'masquerade fully-random', json: { masquerade: { flags: 'fully-random' } } };
const keep = (f: 4 | 6): Both => ({ text: `snat ${ip(f)} to ${saddr(f).text}`, json: { snat: { family: ip(f), addr: saddr(f).json } } });
const ACCEPT: Both = { text: 'accept', json: { accept: null } };
const RETURN: Both = { text: 'return', json: { return: null } };
const DROP: Both = { text: 'drop', json: { drop: null } };
const NOT_NEW: Both = { text: 'ct state != new', json: { match: { op: '!=', left: { ct: { key: 'state' } }, right: 'new' } } };
const TRANSLATED: Both = { text: 'ct status dnat', json: { match: { op: 'in', left: { ct: { key: 'status' } }, right: 'dnat' } } };
const FROM_HERE: Both = { text: 'fib saddr type local', json: { match: { op: '==', left: { fib: { result: 'type', flags: ['saddr'] } }, right: 'local' } } };
const protocolIs = (p: string): Both => match(L4, p);

/** From, or not from, one of the cluster's ranges. */
function fromCluster(f: 4 | 6, cidrs: readonly string[], op: '==' | '!='): Both | undefined {
  const [cidr] = cidrs.filter((c) => c.includes(':') === (f === 6));
  if (cidr === undefined) return undefined;
  const c = parseCidr(cidr);
  return { text: `${ip(f)} saddr ${op === '!=' ? '!= ' : ''}${cidr}`, json: { match: { op, left: saddr(f).json, right: { prefix: { addr: formatIp(cidrFirst(c)), len: c.prefix } } } } };
}

const defined = <T>(x: T | undefined): readonly T[] => (x === undefined ? [] : [x]);
const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;

/** The chains that are there whatever Services there are. */
export function baseChains(clusterCidrs: readonly string[]): ChainForms[] {
  const both = <T>(make: (f: 4 | 6) => readonly T[]): T[] => FAMILIES.flatMap((f) => [...make(f)]);
  const dispatch = both((f) => [rule([vmap(frontend(f), `services${f}`)])]);
  const verdict = both((f) => [rule([vmap(frontend(f), `refused${f}`)]), rule([match(daddr(f), `@clusterips${f}`), goto('refuse')], 'a port that the Service does not have')]);
  const remember = PROTOCOLS.map((p) => rule([protocolIs(p), vmap(asked(4), 'affine4')]));
  const after = (hook: string): ChainForms => ({
    name: `after-${hook}`, base: { type: 'filter', hook, prio: -90 },
    rules: [rule([NOT_NEW, ACCEPT]), ...verdict, rule([TRANSLATED, jump('remember')])],
  });
  return [
    {
      name: 'prerouting', base: { type: 'nat', hook: 'prerouting', prio: -100 },
      rules: [
        ...both((f) => [rule([match(frontend(f), `@guarded${f}`), match(frontendWith(f, saddr(f)), `@allowed${f}`, '!='), DROP], 'not in loadBalancerSourceRanges')]),
        ...both((f) => [rule([...defined(fromCluster(f, clusterCidrs, '!=')), vmap(frontend(f), `outside${f}`)], 'externalTrafficPolicy Local: from beyond the cluster')]),
        ...dispatch,
      ],
    },
    { name: 'output', base: { type: 'nat', hook: 'output', prio: -100 }, rules: dispatch },
    after('prerouting'),
    after('output'),
    { name: 'postrouting', base: { type: 'nat', hook: 'postrouting', prio: 99 }, rules: [rule([TRANSLATED, jump('masquerading')])] },
    {
      name: 'masquerading',
      rules: [
        ...both((f) => [rule([match(concat(saddr(f), daddr(f)), `@loops${f}`), MASQUERADE], 'a pod that reaches itself')]),
        // Bound to the address it has: what other tables masquerade because its destination was translated (host ports) is not meant for it.
        ...both((f) => defined(fromCluster(f, clusterCidrs, '==')).flatMap((from) => [
          rule([from, match(original(`${ip(f)} daddr`), `@clusterips${f}`), keep(f)], 'pods keep their address'), rule([from, RETURN]),
        ])),
        ...both((f) => [rule([match(original(`${ip(f)} daddr`), `@clusterips${f}`), MASQUERADE], 'from beyond the cluster, or from this node')]),
        ...both((f) => PROTOCOLS.flatMap((p) => [
          rule([protocolIs(p), match(asked(f), `@external${f}`), MASQUERADE]),
          rule([protocolIs(p), match(asked(f), `@preserved${f}`), FROM_HERE, MASQUERADE]),
        ])),
      ],
    },
    { name: 'remember', rules: remember },
    {
      name: 'refuse',
      rules: [
        rule([protocolIs('tcp'), { text: 'reject with tcp reset', json: { reject: { type: 'tcp reset' } } }]),
        rule([{ text: 'reject with icmpx port-unreachable', json: { reject: { type: 'icmpx', expr: 'port-unreachable' } } }]),
      ],
    },
  ];
}

/** A chain that elements lead to, by its name: `any-3`, `here-2`, `stick-any-3`, `remember-10800`. */
export function chainForms(name: string): ChainForms {
  const list = /^(stick-)?(any|here)-(\d+)$/.exec(name);
  if (list) {
    const [, stick, kind, count] = list;
    const offset = (kind === 'any' ? 0 : LOCAL_OFFSET) + 1;
    if (stick !== undefined) {
      return {
        name,
        rules: [
          rule([dnat(4, frontendWith(4, saddr(4)), AFFINITY)], 'where this client was before'),
          rule([{ text: `meta priority set jhash ip6 saddr mod ${count} seed 0x1 offset ${offset}`, json: { mangle: { key: { meta: { key: 'priority' } }, value: { jhash: { mod: Number(count), seed: 1, offset, expr: saddr(6).json } } } } }]),
          rule([dnat(6, frontendWith(6, meta('priority')), 'endpoints6')], 'IPv6 clients by their address'),
          rule([goto(`${kind}-${count}`)]),
        ],
      };
    }
    return {
      name,
      rules: [
        rule([{ text: `meta priority set numgen random mod ${count} offset ${offset}`, json: { mangle: { key: { meta: { key: 'priority' } }, value: { numgen: { mode: 'random', mod: Number(count), offset } } } } }]),
        ...FAMILIES.map((f) => rule([dnat(f, frontendWith(f, meta('priority')), `endpoints${f}`)])),
      ],
    };
  }
  const time = /^remember-(\d+)$/.exec(name);
  if (!time) throw new RangeError(`no chain ${name}`);
  return {
    name,
    rules: PROTOCOLS.map((p): RuleForms => {
      const update = `update @${AFFINITY} { ct original ip daddr . meta l4proto . ct original proto-dst . ct original ip saddr timeout ${time[1]}s : ip daddr . ${p} dport }`;
      // The protocol's own match is not listed: `tcp dport` says it.
      return { text: `${protocolIs(p).text} ${update}`, expr: [{ statement: update }] };
    }),
  };
}

/** The chains that this one leads to. */
export const chainsBehind = (name: string): readonly string[] => (name.startsWith('stick-') ? [name.slice('stick-'.length)] : []);

export const ruleObject = (chain: string, r: RuleForms): NftObject =>
  ({ rule: { family: 'inet', table: SERVICES_TABLE, chain, ...(r.comment === undefined ? {} : { comment: r.comment }), expr: r.expr } });
export const chainObject = (c: ChainForms): NftObject =>
  ({ chain: { family: 'inet', table: SERVICES_TABLE, name: c.name, ...(c.base ? { type: c.base.type, hook: c.base.hook, prio: c.base.prio, policy: 'accept' } : {}) } });

export const chainText = (c: ChainForms): string =>
  `add chain inet ${SERVICES_TABLE} ${c.name}${c.base ? ` { type ${c.base.type} hook ${c.base.hook} priority ${c.base.prio}; policy accept; }` : ''}`;
export const ruleText = (chain: string, r: RuleForms): string =>
  `add rule inet ${SERVICES_TABLE} ${chain} ${r.text}${r.comment === undefined ? '' : ` comment "${r.comment}"`}`;

