/** A network namespace of a test's own, with things in it that somebody else made. */
import { spawnSync } from 'node:child_process';
import { Netns, Nftables, writeSysctl } from '@podway/kernel';
import { emptyState, mergeStates, podwayOwnership, type NetnsState } from '../src/index.js';

export const needsRoot = process.getuid?.() === 0 ? false : 'makes network namespaces: needs root';

let serial = 0;

export interface Scratch {
  readonly ns: Netns;
  readonly name: string;
  /** Runs `ip` inside; throws when it fails. */
  ip(...args: string[]): string;
  bridge(...args: string[]): string;
  nft(commands: string): string;
}

export async function withScratch<T>(work: (s: Scratch) => T | Promise<T>): Promise<T> {
  const name = `podway-test-netstate-${process.pid}-${serial++}`;
  const ns = Netns.create(name);
  const run = (command: string) => (...args: string[]) => {
    const r = spawnSync(command, ['-n', name, ...args], { encoding: 'utf8' });
    if (r.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${r.stderr}`);
    return r.stdout;
  };
  try {
    // No address appears or changes by itself, seconds later.
    writeSysctl(ns, 'net.ipv6.conf.default.accept_dad', '0');
    writeSysctl(ns, 'net.ipv6.conf.default.addr_gen_mode', '1');
    return await work({ ns, name, ip: run('ip'), bridge: run('bridge'), nft: (text) => Nftables.with(ns, (n) => n.text(text)) });
  } finally {
    ns.close();
    Netns.remove(name);
  }
}

/** An uplink, and one of everything that is not Podway's. */
export function addForeign(s: Scratch): void {
  s.ip('link', 'set', 'lo', 'up');
  s.ip('link', 'add', 'up0', 'type', 'bridge');
  s.ip('link', 'set', 'up0', 'up');
  s.ip('addr', 'add', '172.18.0.2/16', 'brd', '+', 'dev', 'up0');
  s.ip('addr', 'add', 'fd18::2/64', 'dev', 'up0');
  s.ip('link', 'add', 'fvx', 'type', 'vxlan', 'id', '900', 'dstport', '4999', 'local', '172.18.0.2', 'dev', 'up0', 'nolearning');
  s.ip('link', 'set', 'fvx', 'up', 'alias', 'made by somebody else');
  s.ip('addr', 'add', '192.168.77.1/24', 'dev', 'fvx');
  s.ip('route', 'add', '10.200.0.0/16', 'via', '172.18.0.9', 'dev', 'up0', 'onlink', 'proto', 'static');
  s.ip('route', 'add', '10.201.0.0/24', 'via', '10.201.0.0', 'dev', 'fvx', 'onlink');
  s.ip('route', 'add', 'blackhole', '10.202.0.0/16', 'table', '77');
  s.ip('-6', 'route', 'add', 'fd99::/64', 'via', 'fd18::9', 'dev', 'up0', 'onlink', 'metric', '20');
  s.ip('rule', 'add', 'priority', '500', 'from', '10.9.0.0/16', 'lookup', '77');
  s.ip('neigh', 'add', '172.18.0.9', 'lladdr', '02:00:00:00:00:09', 'dev', 'up0', 'nud', 'permanent');
  // On a foreign device even our own prefix makes nothing ours.
  s.ip('neigh', 'add', '10.201.0.0', 'lladdr', '0e:70:77:01:01:01', 'dev', 'fvx', 'nud', 'permanent');
  s.bridge('fdb', 'add', '0e:70:77:01:01:01', 'dev', 'fvx', 'dst', '172.18.0.9', 'self', 'permanent');
  s.nft('add table inet other; add chain inet other c { type filter hook input priority 0; }; add rule inet other c counter accept');
}

/** All that `ip`, `bridge` and `nft` say of a namespace, as one text to compare byte for byte. */
export function snapshot(s: Scratch): string {
  const parts = [
    s.ip('-d', '-j', 'link'), s.ip('-d', '-j', 'addr'), s.ip('-d', '-j', 'route', 'show', 'table', 'all'), s.ip('-6', '-d', '-j', 'route', 'show', 'table', 'all'),
    s.ip('-j', 'rule'), s.ip('-6', '-j', 'rule'), s.ip('-j', 'neigh', 'show', 'nud', 'permanent'), s.ip('-j', 'neigh', 'show', 'proxy'), withoutMulticast(s.bridge('-d', '-j', 'fdb', 'show')),
  ];
  // A bridge's timers run.
  return `${parts.map((p) => p.replace(/"[a-z_]*timer":[\d.]+,?/g, '')).join('\n')}\n${s.nft('list ruleset')}`;
}

export const ownership = podwayOwnership((a) => a.address.startsWith('10.') || a.address.startsWith('fd00:'));

export const state = (...parts: readonly Partial<NetnsState>[]): NetnsState => mergeStates('test', emptyState(), ...parts);

/** The kernel adds and drops groups of its own as devices come and go. */
function withoutMulticast(json: string): string {
  return JSON.stringify((JSON.parse(json) as { mac: string }[]).filter((e) => !/^(33:33|01:00:5e|01:80:c2)/.test(e.mac)));
}
