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
