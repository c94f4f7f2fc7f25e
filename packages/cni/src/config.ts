/**
 * Network configurations: what one plugin reads on stdin, and the list an administrator
 * writes. Unknown keys are kept (SPEC.md section 1: they belong to the plugin); known ones
 * are checked and a mistake is told with its place in the document.
 */
import { z } from 'zod';
import { messageOf } from '@podway/errors';
import { CniError } from './errors.js';
import { tryParseIp, tryParseIpCidr } from './ip.js';
import { type CniResult, describeIssues, dnsSchema, parseResult } from './result.js';
import { CNI_VERSIONS, LATEST_CNI_VERSION, compareVersions, isCniVersion } from './versions.js';

/** SPEC.md section 1 and 2: network names and container ids. */
export const NAME_PATTERN = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

const name = z.string().regex(NAME_PATTERN, 'must start with a letter or digit and have only letters, digits, "_", "." and "-"');
const fileName = z.string().min(1, 'must not be empty').regex(/^[^/\\\0]+$/, 'must be a file name without / or \\');
const port = z.number().int().min(1).max(65535);
const address = z.string().refine((s) => tryParseIp(s.split('/')[0] ?? '') !== undefined, 'not an IP address');
const subnet = z.string().refine((s) => tryParseIpCidr(s) !== undefined, 'not a subnet in CIDR notation');
const rate = z.number().int().nonnegative();

/**
 * An object whose keys are taken in any case, as Go's decoder takes them: containerd's go-cni has no JSON names
 * on its structures, so it sends `HostPort`, `IngressRate` and `Servers` where the conventions have `hostPort`.
 */
const anyCase = <T extends z.ZodRawShape>(shape: T) => {
  const known = new Map(Object.keys(shape).map((k) => [k.toLowerCase(), k]));
  return z.preprocess((v) => {
    if (typeof v !== 'object' || v === null || Array.isArray(v)) return v;
    const entries = Object.entries(v);
    // A key as it is written goes before one that is so in another case.
    return Object.fromEntries([...entries.map(([k, x]) => [known.get(k.toLowerCase()) ?? k, x] as const), ...entries.filter(([k]) => k in shape)]);
  }, z.looseObject(shape));
};

/** Capability arguments, CONVENTIONS.md "Well-known Capabilities". */
export const runtimeConfigSchema = z.looseObject({
  portMappings: z
    .array(
      anyCase({
        /** 0: no host port is wanted (portmap's practice). */
        hostPort: z.number().int().min(0).max(65535),
        containerPort: port,
        protocol: z.string().toLowerCase().pipe(z.enum(['tcp', 'udp', 'sctp'])).default('tcp'),
        hostIP: z.union([z.literal(''), address]).optional(),
      }),
    )
    .optional(),
  /** Bits per second, and bits. */
  bandwidth: anyCase({ ingressRate: rate.optional(), ingressBurst: rate.optional(), egressRate: rate.optional(), egressBurst: rate.optional() }).optional(),
  /** Outer list: one address each; inner list: the ranges of its pool. */
  ipRanges: z.array(z.array(anyCase({ subnet, rangeStart: address.optional(), rangeEnd: address.optional(), gateway: address.optional() }))).optional(),
  dns: anyCase({ servers: z.array(z.string()).nullish(), searches: z.array(z.string()).nullish(), options: z.array(z.string()).nullish() }).optional(),
  ips: z.array(address).optional(),
  mac: z.string().regex(/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/, 'not a MAC address').optional(),
  aliases: z.array(z.string()).optional(),
  cgroupPath: z.string().optional(),
});
export type RuntimeConfig = z.infer<typeof runtimeConfigSchema>;

const attachmentSchema = z.object({ containerID: z.string(), ifname: z.string() });
/** One still-valid attachment of a GC. */
export interface GcAttachment {
  readonly containerId: string;
  readonly ifname: string;
}

const pluginSchema = z.looseObject({
  cniVersion: z.string().default('0.1.0'), // libcni's reading of a configuration that names none
  name,
  type: fileName,
  capabilities: z.record(z.string(), z.boolean()).optional(),
  ipMasq: z.boolean().optional(),
  ipam: z.looseObject({ type: z.string().optional() }).optional(),
  dns: dnsSchema.optional(),
  args: z.record(z.string(), z.unknown()).optional(),
  runtimeConfig: runtimeConfigSchema.optional(),
  prevResult: z.record(z.string(), z.unknown()).nullish(),
  'cni.dev/valid-attachments': z.array(attachmentSchema).nullish(),
  'cni.dev/attachments': z.array(attachmentSchema).nullish(), // the name libcni used by mistake (its issue 1101)
});

/** What a plugin gets on stdin, checked. Keys that the specification does not know are in `raw`. */
export interface PluginConf {
  readonly cniVersion: string;
  readonly name: string;
  readonly type: string;
  readonly ipam?: Readonly<Record<string, unknown>> & { readonly type?: string };
  readonly dns?: z.infer<typeof dnsSchema>;
  readonly args?: Readonly<Record<string, unknown>>;
  readonly runtimeConfig: RuntimeConfig;
  /** In our internal shape, whatever version it came in. */
  readonly prevResult?: CniResult;
  /** Of a GC; undefined when the runtime gave no list (which is not an empty list). */
  readonly validAttachments?: readonly GcAttachment[];
  /** The whole document, as it came. */
  readonly raw: Readonly<Record<string, unknown>>;
}

/** JSON to a document. @throws CniError 6 with the parser's words */
export function decodeJson(text: string, what: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (e) {
    throw new CniError('DECODING_FAILURE', `${what} is not JSON`, { details: text.trim() === '' ? 'it is empty' : messageOf(e) });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new CniError('DECODING_FAILURE', `${what} is not a JSON object`, { details: `it is ${json === null ? 'null' : Array.isArray(json) ? 'a list' : `a ${typeof json}`}` });
  }
  return json as Record<string, unknown>;
}

/**
 * A plugin's configuration from stdin.
 * @param lenient for DEL, which must get through: what was only wrong in prevResult or runtimeConfig is left out.
 * @throws CniError 6 (not JSON) or 7 (which key, and what is wrong with it)
 */
export function parsePluginConf(text: string, lenient = false): PluginConf {
  const raw = decodeJson(text, 'the network configuration');
  const input: Record<string, unknown> = { ...raw };
  if (lenient && !runtimeConfigSchema.optional().safeParse(raw['runtimeConfig']).success) delete input['runtimeConfig'];
  if (lenient && (typeof raw['prevResult'] !== 'object' || Array.isArray(raw['prevResult']))) delete input['prevResult'];
  const read = pluginSchema.safeParse(input);
  if (!read.success) {
    const missing = raw['name'] === undefined || raw['name'] === '';
    throw new CniError('INVALID_CONFIG', missing ? 'missing network name' : 'invalid network configuration', { details: describeIssues(read.error) });
  }
  const c = read.data;
  let prevResult: CniResult | undefined;
  try {
    if (c.prevResult) prevResult = parseResult(c.prevResult, 'prevResult');
  } catch (e) {
    if (!lenient) throw e;
  }
  const valid = c['cni.dev/valid-attachments'] ?? c['cni.dev/attachments'];
  return {
    cniVersion: c.cniVersion,
    name: c.name,
    type: c.type,
    ...(c.ipam ? { ipam: c.ipam as NonNullable<PluginConf['ipam']> } : {}),
    ...(c.dns ? { dns: c.dns } : {}),
    ...(c.args ? { args: c.args } : {}),
    runtimeConfig: c.runtimeConfig ?? {},
    ...(prevResult ? { prevResult } : {}),
    ...(valid ? { validAttachments: valid.map((a) => ({ containerId: a.containerID, ifname: a.ifname })) } : {}),
    raw,
  };
}

/** One plugin of a list, as written: the runner passes it on with its additions. */
export type RawPlugin = Readonly<Record<string, unknown>> & { readonly type: string; readonly capabilities?: Readonly<Record<string, boolean>> };

export interface NetworkList {
  readonly name: string;
  /** The highest of cniVersion and cniVersions that we speak. */
  readonly cniVersion: string;
  readonly disableCheck: boolean;
  readonly disableGC: boolean;
  readonly loadOnlyInlinedPlugins: boolean;
  readonly plugins: readonly RawPlugin[];
  /** The document the list was read from. */
  readonly source: string;
}

/** libcni takes the strings too. */
const flag = z.union([z.boolean(), z.string().toLowerCase().pipe(z.enum(['true', 'false'])).transform((s) => s === 'true')]).default(false);
const rawPlugin = z.looseObject({ type: fileName, capabilities: z.record(z.string(), z.boolean()).optional() });
const semver = z.string().regex(/^\d+\.\d+\.\d+$/, 'not a version of the form 1.0.0');
const listSchema = z.looseObject({
  name,
  cniVersion: semver.optional(),
  cniVersions: z.array(semver).optional(),
  disableCheck: flag,
  disableGC: flag,
  loadOnlyInlinedPlugins: flag,
  plugins: z.array(rawPlugin).optional(),
});

/**
 * A configuration list, or a single plugin's configuration (a `.conf` of before 1.0.0), from its text.
 * @throws CniError 6 (not JSON), 7 (which key, what is wrong), 1 (no version we speak)
 */
export function parseNetworkList(text: string): NetworkList {
  const raw = decodeJson(text, 'the network configuration');
  const single = raw['plugins'] === undefined && typeof raw['type'] === 'string';
  const read = listSchema.safeParse(single ? { name: raw['name'], cniVersion: raw['cniVersion'], plugins: [raw] } : raw);
  if (!read.success) throw new CniError('INVALID_CONFIG', 'invalid network configuration', { details: describeIssues(read.error) });
  const list = read.data;
  if (list.plugins?.length === 0) throw new CniError('INVALID_CONFIG', 'invalid network configuration', { details: 'plugins: no plugins in list' });
  if (!list.plugins && list.loadOnlyInlinedPlugins) {
    throw new CniError('INVALID_CONFIG', 'invalid network configuration', { details: 'loadOnlyInlinedPlugins is true, and there is no plugins key' });
  }
  const named = [...(list.cniVersions ?? []), ...(list.cniVersion ? [list.cniVersion] : [])];
  const usable = named.filter((v) => compareVersions(v, LATEST_CNI_VERSION) <= 0).sort(compareVersions);
  const cniVersion = usable.at(-1) ?? named[0] ?? '0.1.0';
  if (!isCniVersion(cniVersion)) {
    throw new CniError('INCOMPATIBLE_VERSION', 'incompatible CNI versions', { details: `config is "${cniVersion}", runtime supports ${JSON.stringify(CNI_VERSIONS)}` });
  }
  return {
    name: list.name,
    cniVersion,
    disableCheck: list.disableCheck,
    disableGC: list.disableGC,
    loadOnlyInlinedPlugins: list.loadOnlyInlinedPlugins,
    plugins: (list.plugins ?? []) as RawPlugin[],
    source: text,
  };
}
