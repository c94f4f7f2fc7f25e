/**
 * What a BGP network is configured with, and what a speaker is. Plain data; `checkBgpSettings` says
 * everything that is wrong at once, before a speaker is told anything.
 * Sources: RFC 4271 (timers: hold time 0 or at least 3 s), RFC 2385 (MD5 key: at most 80 bytes on Linux, tcp_md5sig),
 * RFC 4456 (reflection), RFC 4724 (graceful restart: 12 bits of seconds), RFC 6793 (4-byte AS numbers).
 */
import { tryParseIp, tryParseIpCidr } from '@podway/cni';
import { PodwayError } from '@podway/errors';
import { matchesLabels, parseLabelSelector } from '@podway/kube';
import { familyOf } from '../node/addresses.js';

/** What is taken from an external peer: `cluster` (pod ranges of the cluster), `default` (these and the default route), `all`, or ranges. */
export type ImportRule = 'cluster' | 'default' | 'all' | 'none' | readonly string[];

/** A router that is no node: a top-of-rack switch. */
export interface BgpExternalPeer {
  readonly address: string;
  readonly asn: number;
  readonly password?: string;
  /** Label selector: the nodes that peer with it. All of them when absent. */
  readonly nodeSelector?: string;
  /** Default: `cluster`. */
  readonly import?: ImportRule;
  /** Hops to a router that is not on the node's own subnet. */
  readonly multihop?: number;
}

export interface BgpSettings {
  readonly type: 'bgp';
  readonly asn: number;
  /** Every node peers with every other node of its subnet. Not used when there are reflectors. */
  readonly mesh: boolean;
  /** Names of nodes, or label selectors (`role=reflector`): the nodes that reflect. */
  readonly reflectors: readonly string[];
  /** As an IPv4 address; each reflector's own router id when absent. */
  readonly clusterId?: string;
  readonly peers: readonly BgpExternalPeer[];
  /** MD5 key of the sessions between nodes. */
  readonly password?: string;
  /** Seconds. A node that falls silent is withdrawn after this time. Default 90. */
  readonly holdTime?: number;
  /** Seconds; default a third of the hold time. */
  readonly keepaliveTime?: number;
  /** Seconds for which routes are kept while a speaker restarts; default the hold time. */
  readonly gracefulRestartTime?: number;
}

/** A node, as far as BGP needs it. */
export interface BgpNode {
  readonly name: string;
  /** Of the underlay; the first of each family speaks. */
  readonly addresses: readonly string[];
  /** What it announces: whole podCIDRs, or /26 blocks. */
  readonly blocks: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
}

export type Family = 'inet' | 'inet6';
export const addressOf = (node: BgpNode, family: Family): string | undefined => node.addresses.find((a) => familyOf(a) === family);

export interface BgpTimers {
  readonly hold: number;
  readonly keepalive: number;
  readonly restart: number;
}
const DEFAULT_HOLD = 90;

export function timersOf(s: BgpSettings): BgpTimers {
  const hold = s.holdTime ?? DEFAULT_HOLD;
  return { hold, keepalive: s.keepaliveTime ?? Math.max(1, Math.floor(hold / 3)), restart: s.gracefulRestartTime ?? hold };
}

const isSelector = (word: string): boolean => !/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(word);

/** @throws what parseLabelSelector throws */
export const selects = (selector: string, node: BgpNode): boolean => matchesLabels(parseLabelSelector(selector), node.labels);

/** Does this node reflect? By name, or by a selector that matches it. */
export const isReflector = (s: BgpSettings, node: BgpNode): boolean => s.reflectors.some((r) => (isSelector(r) ? selects(r, node) : r === node.name));

const MD5_KEY = 80;
const asnFits = (asn: number): boolean => Number.isInteger(asn) && asn >= 1 && asn <= 4_294_967_294;
const secondsFit = (n: number, least: number, most: number): boolean => Number.isInteger(n) && n >= least && n <= most;

function passwordProblem(password: string | undefined): string | undefined {
  if (password === undefined) return undefined;
  if (password === '' || Buffer.byteLength(password) > MD5_KEY) return `must have 1 to ${MD5_KEY} bytes`;
  // BIRD's strings have no escapes.
  return /^[\x20\x21\x23-\x7e]+$/.test(password) ? undefined : 'must be printable ASCII without "';
}

function selectorProblem(selector: string): string | undefined {
  try {
    parseLabelSelector(selector);
    return undefined;
  } catch (e) {
    return (e as Error).message;
  }
}

/** Everything that is wrong, each with the name of the setting. */
export function bgpProblems(s: BgpSettings): string[] {
  const said: string[] = [];
  const tell = (name: string, problem: string | undefined | false): void => void (problem && said.push(`${name}: ${problem}`));
  const { hold, keepalive, restart } = timersOf(s);
  tell('asn', !asnFits(s.asn) && `${s.asn} is no AS number (1 to 4294967294)`);
  tell('holdTime', !secondsFit(hold, 3, 65535) && `${hold} is not from 3 to 65535 seconds (RFC 4271)`);
  tell('keepaliveTime', !(secondsFit(keepalive, 1, 21845) && keepalive < hold) && `${keepalive} is not from 1 second to less than the hold time ${hold}`);
  tell('gracefulRestartTime', !secondsFit(restart, 1, 4095) && `${restart} is not from 1 to 4095 seconds (RFC 4724)`);
  tell('password', passwordProblem(s.password));
  tell('clusterId', s.clusterId !== undefined && tryParseIp(s.clusterId)?.family !== 4 && `"${s.clusterId}" is no IPv4 address`);
  for (const r of s.reflectors) if (isSelector(r)) tell(`reflectors "${r}"`, selectorProblem(r));
  s.peers.forEach((p, i) => {
    const name = `peers[${i}]`;
    tell(`${name}.address`, !tryParseIp(p.address) && `"${p.address}" is no address`);
    tell(`${name}.address`, s.peers.findIndex((o) => o.address === p.address) !== i && `${p.address} stands there twice`);
    tell(`${name}.asn`, !asnFits(p.asn) && `${p.asn} is no AS number (1 to 4294967294)`);
    tell(`${name}.password`, passwordProblem(p.password));
    tell(`${name}.nodeSelector`, p.nodeSelector !== undefined && selectorProblem(p.nodeSelector));
    tell(`${name}.multihop`, p.multihop !== undefined && !secondsFit(p.multihop, 2, 255) && `${p.multihop} is not from 2 to 255 hops`);
    if (typeof p.import === 'object') for (const c of p.import) tell(`${name}.import`, !tryParseIpCidr(c) && `"${c}" is no range in CIDR notation`);
  });
  return said;
}

/** @throws BGP_CONFIG_INVALID with all that is wrong */
export function checkBgpSettings(s: BgpSettings): void {
  const problems = bgpProblems(s);
  if (problems.length) {
    throw new PodwayError('BGP_CONFIG_INVALID', 'the BGP configuration cannot be used', {
      said: problems.join('; '), hint: 'A valid one: {"type":"bgp","asn":64512,"mesh":true,"reflectors":[],"peers":[]}',
    });
  }
}
