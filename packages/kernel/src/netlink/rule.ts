/** Policy rules: which table is looked up for which packets. Equivalent: `ip rule`. Source: linux/fib_rules.h. */
import { AF_INET, AF_INET6, familyNumber, ip, type Family } from './address.js';
import { attr, readAttributes, str, u32, u8, writeAttributes, type Writer } from './codec.js';
import { NLM_F_CREATE, NLM_F_EXCL, type Answer, type NetlinkSocket, type Request } from './socket.js';

const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;
const FIB_RULE_INVERT = 2;

const RULE = {
  dst: attr(1, 'FRA_DST', ip),
  src: attr(2, 'FRA_SRC', ip),
  iifname: attr(3, 'FRA_IIFNAME', str),
  goto: attr(4, 'FRA_GOTO', u32),
  priority: attr(6, 'FRA_PRIORITY', u32),
  fwmark: attr(10, 'FRA_FWMARK', u32),
  suppressPrefixLength: attr(14, 'FRA_SUPPRESS_PREFIXLEN', u32),
  table: attr(15, 'FRA_TABLE', u32),
  fwmask: attr(16, 'FRA_FWMASK', u32),
  oifname: attr(17, 'FRA_OIFNAME', str),
  protocol: attr(21, 'FRA_PROTOCOL', u8),
  ipProto: attr(22, 'FRA_IP_PROTO', u8),
} as const;

const ACTION: Readonly<Record<number, string>> = { 1: 'lookup', 2: 'goto', 3: 'nop', 6: 'blackhole', 7: 'unreachable', 8: 'prohibit' };
const actionNumber = (name: string): number => Number(Object.entries(ACTION).find(([, v]) => v === name)?.[0] ?? 1);

export interface RuleInfo {
  readonly family: Family;
  readonly priority: number;
  readonly action: string;
  readonly table: number;
  readonly src: string | undefined;
  readonly dst: string | undefined;
  readonly iif: string | undefined;
  readonly oif: string | undefined;
  readonly fwmark: number | undefined;
  readonly fwmask: number | undefined;
  readonly ipProto: number | undefined;
  readonly suppressPrefixLength: number | undefined;
  readonly goto: number | undefined;
  readonly invert: boolean;
  readonly protocol: number;
}

export type RuleSpec = Pick<RuleInfo, 'family' | 'priority' | 'table'> & Partial<Omit<RuleInfo, 'family' | 'priority' | 'table'>>;

/** struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action, flags. */
function header(w: Writer, o: { family: number; dst?: number; src?: number; table?: number; action?: number; flags?: number }): void {
  const at = w.reserve(12);
  w.buffer.writeUInt8(o.family, at);
  w.buffer.writeUInt8(o.dst ?? 0, at + 1);
  w.buffer.writeUInt8(o.src ?? 0, at + 2);
  w.buffer.writeUInt8(o.table !== undefined && o.table < 256 ? o.table : 0, at + 4);
  w.buffer.writeUInt8(o.action ?? 0, at + 7);
  w.buffer.writeUInt32LE(o.flags ?? 0, at + 8);
}

const split = (cidr: string | undefined): [string | undefined, number] => {
  if (cidr === undefined) return [undefined, 0];
  const [address, length] = cidr.split('/');
  return [address, length === undefined ? (cidr.includes(':') ? 128 : 32) : Number(length)];
};

function body(s: RuleSpec): (w: Writer) => void {
  const [dst, dstLength] = split(s.dst);
  const [src, srcLength] = split(s.src);
  return (w) => {
    header(w, {
      family: familyNumber(s.family), dst: dstLength, src: srcLength, table: s.table,
      action: actionNumber(s.action ?? 'lookup'), flags: s.invert ? FIB_RULE_INVERT : 0,
    });
    writeAttributes(w, RULE, {
      dst, src, iifname: s.iif, oifname: s.oif, priority: s.priority, fwmark: s.fwmark, fwmask: s.fwmask, table: s.table > 255 ? s.table : undefined,
      ipProto: s.ipProto, protocol: s.protocol, suppressPrefixLength: s.suppressPrefixLength, goto: s.goto,
    });
  };
}

const words = (s: RuleSpec): string => `rule ${s.priority}: from ${s.src ?? 'all'}${s.dst ? ` to ${s.dst}` : ''} lookup ${s.table}`;

export const addRuleRequest = (s: RuleSpec): Request => ({
  type: RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, doing: `add ${words(s)}`, body: body(s),
});
export const deleteRuleRequest = (s: RuleSpec): Request => ({ type: RTM_DELRULE, flags: 0, doing: `delete ${words(s)}`, body: body(s) });

function decodeRule(a: Answer): RuleInfo | undefined {
  if (a.type !== RTM_NEWRULE || a.end - a.start < 12) return undefined;
  const b = a.buffer;
  const number = b.readUInt8(a.start);
  if (number !== AF_INET && number !== AF_INET6) return undefined;
  const v = readAttributes(RULE, b, a.start + 12, a.end);
  return {
    family: number === AF_INET ? 'inet' : 'inet6',
    priority: v.priority ?? 0,
    action: ACTION[b.readUInt8(a.start + 7)] ?? String(b.readUInt8(a.start + 7)),
    table: v.table ?? b.readUInt8(a.start + 4),
    src: v.src === undefined ? undefined : `${v.src}/${b.readUInt8(a.start + 2)}`,
    dst: v.dst === undefined ? undefined : `${v.dst}/${b.readUInt8(a.start + 1)}`,
    iif: v.iifname,
    oif: v.oifname,
    fwmark: v.fwmark,
    fwmask: v.fwmask,
    ipProto: v.ipProto,
    suppressPrefixLength: v.suppressPrefixLength === 0xffffffff ? undefined : v.suppressPrefixLength,
    goto: v.goto,
    invert: (b.readUInt32LE(a.start + 8) & FIB_RULE_INVERT) !== 0,
    protocol: v.protocol ?? 0,
  };
}

export function listRules(socket: NetlinkSocket): RuleInfo[] {
  return [AF_INET, AF_INET6].flatMap((family) =>
    socket.dump({ type: RTM_GETRULE, flags: 0, doing: 'list rules', body: (w) => header(w, { family }) }, decodeRule),
  );
}
