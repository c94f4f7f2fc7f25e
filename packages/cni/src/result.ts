/**
 * ADD results: our internal shape (that of 1.1.0, without the version) and its conversion to
 * and from every version we speak. Pure.
 *
 * What each version carries (CNI SPEC.md at spec-v0.3.1, 0.4.0, 1.0.0, 1.1.0, "Result types"):
 *   0.3.0-0.4.0  interfaces name, mac, sandbox; ips with "version": "4"|"6"; routes dst, gw
 *   1.0.0        the same without ips[].version
 *   1.1.0        also mtu, socketPath, pciID per interface; mtu, advmss, priority, table, scope per route
 * Converting down drops what the version has no word for; nothing else is lost.
 */
import { z } from 'zod';
import { CniError } from './errors.js';
import { tryParseIp, tryParseIpCidr } from './ip.js';
import { type CniVersion, versionAtLeast } from './versions.js';

export interface CniInterface {
  readonly name: string;
  readonly mac?: string;
  /** Bytes. */
  readonly mtu?: number;
  /** CNI_NETNS for the container's end, absent on the host. */
  readonly sandbox?: string;
  readonly socketPath?: string;
  readonly pciID?: string;
}

export interface CniIp {
  /** With its prefix length: `10.1.0.5/16`. */
  readonly address: string;
  readonly gateway?: string;
  /** Index into `interfaces`. */
  readonly interface?: number;
}

export interface CniRoute {
  /** In CIDR notation. */
  readonly dst: string;
  readonly gw?: string;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
}

export interface CniDns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

/** The internal result. */
export interface CniResult {
  readonly interfaces?: readonly CniInterface[];
  readonly ips?: readonly CniIp[];
  readonly routes?: readonly CniRoute[];
  readonly dns?: CniDns;
}

/** A result as it is printed: of which shape says `cniVersion`. */
export interface VersionedResult {
  readonly cniVersion: string;
  readonly interfaces?: readonly CniInterface[];
  readonly ips?: readonly (CniIp & { readonly version?: '4' | '6' })[];
  readonly routes?: readonly CniRoute[];
  readonly dns?: CniDns;
}

const ipText = z.string().refine((s) => tryParseIp(s) !== undefined, 'not an IP address');
const cidrText = z.string().refine((s) => tryParseIpCidr(s) !== undefined, 'not an address in CIDR notation');
const uint = z.number().int().nonnegative();

export const dnsSchema = z.object({
  nameservers: z.array(z.string()).optional(),
  domain: z.string().optional(),
  search: z.array(z.string()).optional(),
  options: z.array(z.string()).optional(),
});

/** Reads every version at once: what only some versions have is optional. Unknown keys are dropped, as libcni does. */
const resultSchema = z.object({
  cniVersion: z.string().optional(),
  interfaces: z
    .array(z.object({ name: z.string(), mac: z.string().optional(), mtu: uint.optional(), sandbox: z.string().optional(), socketPath: z.string().optional(), pciID: z.string().optional() }))
    .nullish(),
  ips: z.array(z.object({ address: cidrText, gateway: ipText.optional(), interface: z.number().int().optional() })).nullish(),
  routes: z
    .array(z.object({ dst: cidrText, gw: ipText.optional(), mtu: uint.optional(), advmss: uint.optional(), priority: uint.optional(), table: uint.optional(), scope: uint.optional() }))
    .nullish(),
  dns: dnsSchema.nullish(),
});

/** `a.b[2]: what is wrong`, one after the other: where a document is wrong, in words. */
export function describeIssues(error: z.ZodError, root = ''): string {
  return error.issues
    .map((issue) => {
      const where = issue.path.map((p) => (typeof p === 'number' ? `[${p}]` : `.${String(p)}`)).join('');
      const at = `${root}${where}`.replace(/^\./, '');
      return at ? `${at}: ${issue.message}` : issue.message;
    })
    .join('; ');
}

/** Drop undefined members, so that results compare whole. */
function compact<T extends object>(o: T): T {
  return Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined)) as T;
}

const dnsIsEmpty = (d: CniDns): boolean => !d.nameservers?.length && !d.domain && !d.search?.length && !d.options?.length;

/**
 * A printed result of any version as the internal one. Empty lists and an empty dns are dropped.
 * @param what names the document in errors (`prevResult`, `the result of plugin bridge`).
 * @throws CniError 6 (not of the shape), saying where
 */
export function parseResult(json: unknown, what: string): CniResult {
  const read = resultSchema.safeParse(json);
  if (!read.success) throw new CniError('DECODING_FAILURE', `${what} is not a CNI result`, { details: describeIssues(read.error) });
  const { interfaces, ips, routes, dns } = read.data;
  return {
    ...(interfaces?.length ? { interfaces: interfaces.map((i) => compact(i) as CniInterface) } : {}),
    ...(ips?.length ? { ips: ips.map((i) => compact(i) as CniIp) } : {}),
    ...(routes?.length ? { routes: routes.map((r) => compact(r) as CniRoute) } : {}),
    ...(dns && !dnsIsEmpty(dns as CniDns) ? { dns: compact(dns) as CniDns } : {}),
  };
}

/** The internal result in the shape of `version`, ready for JSON. */
export function resultTo(result: CniResult, version: CniVersion): VersionedResult {
  const rich = versionAtLeast(version, '1.1.0');
  const tagged = !versionAtLeast(version, '1.0.0');
  return {
    cniVersion: version,
    ...(result.interfaces?.length
      ? {
          interfaces: result.interfaces.map((i) =>
            compact({ name: i.name, mac: i.mac, mtu: rich ? i.mtu : undefined, sandbox: i.sandbox, socketPath: rich ? i.socketPath : undefined, pciID: rich ? i.pciID : undefined }) as CniInterface,
          ),
        }
      : {}),
    ...(result.ips?.length
      ? {
          ips: result.ips.map((i) => ({
            ...(tagged ? { version: i.address.includes(':') ? ('6' as const) : ('4' as const) } : {}),
            ...(compact({ interface: i.interface, address: i.address, gateway: i.gateway }) as CniIp),
          })),
        }
      : {}),
    ...(result.routes?.length
      ? { routes: result.routes.map((r) => (rich ? compact(r) : compact({ dst: r.dst, gw: r.gw })) as CniRoute) }
      : {}),
    ...(result.dns && !dnsIsEmpty(result.dns) ? { dns: compact(result.dns) } : {}),
  };
}

/** A printed result in another version. @throws CniError 6 */
export const convertResult = (json: unknown, version: CniVersion, what = 'the result'): VersionedResult => resultTo(parseResult(json, what), version);
