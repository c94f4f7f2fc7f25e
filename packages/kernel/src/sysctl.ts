/**
 * Sysctls of a network namespace. /proc/sys/net shows the namespace of the thread that opens the
 * file, so reading and writing happen inside `Netns.run`. Keys are written with dots as `sysctl`
 * does; a dot within a device name is written as a slash (`net.ipv4.conf.flannel/1.rp_filter`).
 * Source: sysctl(8), Documentation/networking/ip-sysctl.rst.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { PodwayError } from '@podway/errors';
import type { Netns } from './netns.js';

/** `net.ipv4.conf.flannel/1.rp_filter` → `/proc/sys/net/ipv4/conf/flannel.1/rp_filter`. @throws BAD_SYSCTL */
export function sysctlPath(key: string): string {
  if (!/^[a-z0-9_-]+(\.[A-Za-z0-9_@/:-]+)+$/.test(key) || key.includes('//') || /(^|[./])\.\.?([./]|$)/.test(key)) {
    throw new PodwayError('BAD_SYSCTL', `"${key}" is not the name of a sysctl`);
  }
  return `/proc/sys/${key.replace(/[./]/g, (ch) => (ch === '.' ? '/' : '.'))}`;
}

/** A device's name inside a sysctl key. */
export const sysctlDevice = (name: string): string => name.replaceAll('.', '/');

/** The value without its line end; undefined when this kernel has no such sysctl. */
export function readSysctl(ns: Netns, key: string): string | undefined {
  const path = sysctlPath(key);
  try {
    return ns.run(() => readFileSync(path, 'utf8')).trimEnd();
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new PodwayError('SYSCTL_READ', `cannot read sysctl ${key}`, { object: `${key} in ${ns.label}`, cause: e, ...errno(e) });
  }
}

export function writeSysctl(ns: Netns, key: string, value: string): void {
  const path = sysctlPath(key);
  try {
    ns.run(() => writeFileSync(path, value));
  } catch (e) {
    throw new PodwayError('SYSCTL_WRITE', `cannot set sysctl ${key} to ${value}`, { object: `${key} in ${ns.label}`, cause: e, ...errno(e) });
  }
}

/** Many at once, entering the namespace a single time. Missing ones are left out. */
export function readSysctls(ns: Netns, keys: readonly string[]): Record<string, string> {
  const paths = keys.map((key) => [key, sysctlPath(key)] as const);
  return ns.run(() => {
    const values: Record<string, string> = {};
    for (const [key, path] of paths) {
      try {
        values[key] = readFileSync(path, 'utf8').trimEnd();
      } catch {
        // This kernel, or this device, has no such sysctl.
      }
    }
    return values;
  });
}

/** The devices that have per-interface settings, `all` and `default` among them. */
export function sysctlDevices(ns: Netns, family: 'ipv4' | 'ipv6'): string[] {
  try {
    return ns.run(() => readdirSync(`/proc/sys/net/${family}/conf`));
  } catch {
    return [];
  }
}

const errno = (e: unknown): { errno: string } | Record<string, never> => {
  const code = (e as NodeJS.ErrnoException).code;
  return code ? { errno: code } : {};
};

const GLOBAL_KEYS = [
  'net.ipv4.ip_forward', 'net.ipv4.ip_no_pmtu_disc', 'net.ipv4.ip_default_ttl', 'net.ipv4.ip_local_port_range', 'net.ipv4.icmp_echo_ignore_all',
  'net.ipv4.tcp_mtu_probing', 'net.ipv6.conf.all.disable_ipv6', 'net.bridge.bridge-nf-call-iptables', 'net.bridge.bridge-nf-call-ip6tables',
  'net.netfilter.nf_conntrack_max', 'net.netfilter.nf_conntrack_count', 'net.ipv4.fib_multipath_hash_policy', 'net.ipv6.conf.all.forwarding',
  'net.ipv6.icmp.echo_ignore_all',
];
const DEVICE_KEYS = ['forwarding', 'rp_filter', 'arp_ignore', 'arp_filter', 'arp_announce', 'proxy_arp', 'accept_local', 'route_localnet', 'disable_policy', 'ignore_routes_with_linkdown'];
const DEVICE_KEYS_6 = ['forwarding', 'disable_ipv6', 'accept_ra', 'hop_limit'];

/** The sysctls that decide what happens to a packet: the global ones, and those of each device. */
export function listSysctlKeys(devices: readonly string[]): string[] {
  const names = ['all', 'default', ...devices.map(sysctlDevice)];
  return [
    ...GLOBAL_KEYS,
    ...names.flatMap((d) => DEVICE_KEYS.map((k) => `net.ipv4.conf.${d}.${k}`)),
    ...names.flatMap((d) => DEVICE_KEYS_6.map((k) => `net.ipv6.conf.${d}.${k}`)),
  ];
}
