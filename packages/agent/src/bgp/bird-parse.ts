/**
 * What BIRD says on its control socket, as data. Pure; never throws: lines that are not understood are passed over,
 * whatever sends them, and what was not said is undefined.
 *
 * Format (BIRD's doc/reply_codes, nest/cli.c): a reply is lines `CODE-text`, with a space instead of the code and dash
 * where the code of the line before goes on, up to one line `CODE text`, which ends it. Codes below 1000 end a success,
 * 8000 and above are failures. Lines that begin with `+` are log messages.
 */
import type { SessionType } from './bird-config.js';

export interface ReplyLine {
  readonly code: number;
  readonly text: string;
}
export interface Reply {
  readonly lines: readonly ReplyLine[];
  /** The line that ended it. */
  readonly end: ReplyLine;
}

/** Takes bytes as they come, gives whole replies. */
export class ReplyReader {
  private rest = '';
  private lines: ReplyLine[] = [];
  private code = 0;
  private held = 0;

  push(chunk: string): Reply[] {
    this.rest += chunk;
    const replies: Reply[] = [];
    for (let at = this.rest.indexOf('\n'); at >= 0; at = this.rest.indexOf('\n')) {
      // A peer may put words into BIRD's mouth (RFC 8203); they must not reach a terminal as commands.
      const line = this.rest.slice(0, at).replace(/\r$/, '').replace(/[^\t\P{Cc}]/gu, '?');
      this.rest = this.rest.slice(at + 1);
      this.held += line.length;
      const m = /^(\d{4})([ -])(.*)$/.exec(line);
      if (m) {
        const said = { code: Number(m[1]), text: m[3]! };
        this.code = said.code;
        if (m[2] === '-') this.lines.push(said);
        else {
          replies.push({ lines: this.lines, end: said });
          [this.lines, this.held] = [[], 0];
        }
      } else if (line.startsWith(' ')) this.lines.push({ code: this.code, text: line.slice(1) });
    }
    return replies;
  }

  /** Characters kept of lines and replies that have not ended. */
  get pending(): number {
    return this.rest.length + this.held;
  }
}

export interface Counts {
  readonly imported: number;
  readonly filtered: number;
  readonly exported: number;
  readonly preferred: number;
}

export interface BgpPeerStatus {
  /** Name of BIRD's protocol. */
  readonly protocol: string;
  readonly address: string;
  /** `node m2`, as described in the configuration. */
  readonly name: string;
  readonly type: SessionType | 'unknown';
  readonly asn: number | undefined;
  readonly localAsn: number | undefined;
  /** BGP's: Idle, Connect, Active, OpenSent, OpenConfirm, Established, Passive, Down, Close. */
  readonly state: string;
  /** Of the protocol: up, start, down, stop. */
  readonly protocolState: string;
  readonly disabled: boolean;
  /** Last change of state, UTC, `2026-11-21 01:41:59` as BIRD prints it. */
  readonly since: string;
  /** The kept reason of the last failure; stays until the session stands. */
  readonly lastError: string | undefined;
  /** The peer is gone and its routes are kept while it restarts. */
  readonly gracefulRestart: boolean;
  readonly neighborId: string | undefined;
  readonly sourceAddress: string | undefined;
  /** Seconds left and whole. */
  readonly holdTimer: { readonly left: number; readonly of: number } | undefined;
  readonly imported: number;
  readonly exported: number;
  /** By address family as BIRD calls it. */
  readonly routes: Readonly<Record<string, Counts>>;
}

const SUMMARY = 1002;
const DETAILS = 1006;
const TYPES: readonly string[] = ['mesh', 'rr', 'client', 'external'];

const count = (text: string, word: string): number => Number(new RegExp(`(\\d{1,15}) ${word}`).exec(text)?.[1] ?? 0);

function routesOf(details: readonly string[]): Record<string, Counts> {
  const routes: Record<string, Counts> = {};
  let channel: string | undefined;
  for (const line of details) {
    const head = /^ {0,4}Channel (ipv[46])\b/.exec(line);
    if (head) channel = head[1]!;
    const r = /^\s+Routes:\s+(.*)$/.exec(line);
    if (r && channel !== undefined) {
      routes[channel] = { imported: count(r[1]!, 'imported'), filtered: count(r[1]!, 'filtered'), exported: count(r[1]!, 'exported'), preferred: count(r[1]!, 'preferred') };
    }
  }
  return routes;
}

/** From `show protocols all`. Sessions only, in BIRD's order. */
export function parseSessions(reply: Reply): BgpPeerStatus[] {
  const found: BgpPeerStatus[] = [];
  let summary: RegExpExecArray | null = null;
  let details: string[] = [];
  const flush = (): void => {
    if (summary) found.push(sessionOf(summary, details));
    [summary, details] = [null, []];
  };
  for (const { code, text } of reply.lines) {
    if (code === SUMMARY) {
      flush();
      // Name, protocol, table, state, since (day and time), info.
      summary = /^(\S+)\s+BGP\s+\S+\s+(\S+)\s+(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*|\S+)\s*(.*?)\s*$/.exec(text);
    } else if (code === DETAILS && summary) details.push(text);
  }
  flush();
  return found;
}

function sessionOf(summary: RegExpExecArray, details: readonly string[]): BgpPeerStatus {
  const [, protocol = '', protocolState = '', since = '', info = ''] = summary;
  const field = (name: string): string | undefined => {
    for (const line of details) {
      const text = line.trimStart();
      if (text.startsWith(`${name}:`)) return text.slice(name.length + 1).trim();
    }
    return undefined;
  };
  const number = (text: string | undefined): number | undefined => (text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined);
  const routes = routesOf(details);
  const hold = /^(\d{1,6}(?:\.\d{1,6})?)\/(\d{1,6})$/.exec(field('Hold timer') ?? '');
  const type = protocol.split('_')[0]!;
  return {
    protocol, protocolState, since, routes, type: TYPES.includes(type) ? (type as SessionType) : 'unknown',
    address: field('Neighbor address') ?? '', name: field('Description') ?? protocol,
    asn: number(field('Neighbor AS')), localAsn: number(field('Local AS')),
    state: field('BGP state') ?? (info.split(/\s+/)[0] || 'Down'),
    disabled: protocolState === 'down' && !/Error|Received/.test(info),
    lastError: field('Last error'),
    gracefulRestart: details.some((l) => l.trim() === 'Neighbor graceful restart active'),
    neighborId: field('Neighbor ID'), sourceAddress: field('Source address'),
    holdTimer: hold ? { left: Number(hold[1]), of: Number(hold[2]) } : undefined,
    imported: Object.values(routes).reduce((n, r) => n + r.imported, 0),
    exported: Object.values(routes).reduce((n, r) => n + r.exported, 0),
  };
}

export interface BgpRoute {
  readonly prefix: string;
  /** `unicast`, `blackhole`, `unreachable`. */
  readonly dest: string;
  /** The protocol that brought it: `mesh_172_18_0_3`, `own4`. */
  readonly from: string;
  readonly since: string;
  /** The one that is used. */
  readonly best: boolean;
  readonly preference: number | undefined;
  readonly gateway: string | undefined;
  readonly dev: string | undefined;
  readonly asPath: readonly number[];
  readonly nextHop: string | undefined;
  readonly localPref: number | undefined;
  readonly communities: readonly string[];
  readonly originator: string | undefined;
}
type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** From `show route … all`. */
export function parseRoutes(reply: Reply): BgpRoute[] {
  const routes: Mutable<BgpRoute>[] = [];
  let prefix = '';
  for (const { text } of reply.lines) {
    // `10.244.2.0/24        unicast [mesh_10_0_0_2 2026-11-21 01:41:59] * (100) [i]`; without the prefix where it is that of the line before.
    const head = /^(\S*)\s+(\S+) \[(\S+) (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*|\S+)(?: from \S+)?\] ?(\*?) ?\((\d{1,6})[^)]*\)/.exec(text);
    if (head) {
      if (head[1]) prefix = head[1];
      routes.push({
        prefix, dest: head[2]!, from: head[3]!, since: head[4]!, best: head[5] === '*', preference: Number(head[6]), gateway: undefined, dev: undefined,
        asPath: [], nextHop: undefined, localPref: undefined, communities: [], originator: undefined,
      });
      continue;
    }
    const last = routes.at(-1);
    if (!last) continue;
    const via = /^\s*via (\S+) on (\S+)/.exec(text);
    const dev = /^\s*dev (\S+)/.exec(text);
    const attribute = /^\s*BGP\.(\w+):\s*(.*?)\s*$/.exec(text);
    if (via) [last.gateway, last.dev] = [via[1], via[2]];
    else if (dev) last.dev = dev[1];
    else if (attribute) {
      const [, name, value = ''] = attribute;
      if (name === 'as_path') last.asPath = value.split(/\s+/).filter((w) => /^\d{1,10}$/.test(w)).map(Number);
      else if (name === 'next_hop') last.nextHop = value.split(/\s+/)[0];
      else if (name === 'local_pref' && /^\d{1,10}$/.test(value)) last.localPref = Number(value);
      else if (name === 'originator_id') last.originator = value;
      else if (name === 'community') last.communities = value.match(/\(\d+,\d+\)/g) ?? [];
    }
  }
  return routes;
}

export interface BirdStatus {
  readonly version: string | undefined;
  readonly routerId: string | undefined;
  readonly started: string | undefined;
  readonly configured: string | undefined;
  readonly message: string;
  /** A restart is under way: the kernel's routes are not touched until it has ended. */
  readonly recovering: boolean;
}

/** From `show status`. */
export function parseStatus(reply: Reply): BirdStatus {
  const text = [...reply.lines.map((l) => l.text), reply.end.text].join('\n');
  const one = (pattern: RegExp): string | undefined => pattern.exec(text)?.[1];
  return {
    version: one(/^BIRD (\S+)/m), routerId: one(/^Router ID is (\S+)/m), started: one(/^Last reboot on (\S+ \S+)/m),
    configured: one(/^Last reconfiguration on (\S+ \S+)/m), message: reply.end.text, recovering: /graceful restart recovery in progress/i.test(text),
  };
}
