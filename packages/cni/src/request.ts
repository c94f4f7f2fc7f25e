/**
 * A CNI request from its environment and stdin: checked, in our words. Pure.
 * Which variables which verb needs: SPEC.md section 2; the rules for names: libcni pkg/utils,
 * the kernel's dev_valid_name for interfaces. CNI_PATH is for delegating plugins: optional here.
 */
import { type GcAttachment, NAME_PATTERN, type PluginConf, parsePluginConf } from './config.js';
import { CniError } from './errors.js';
import { CNI_COMMANDS, type CniCommand, type CniVersion, requireVersion } from './versions.js';

/** CNI_ARGS as Kubernetes runtimes send them, with the two of the conventions. */
export interface K8sArgs {
  readonly IgnoreUnknown: boolean;
  readonly K8S_POD_NAMESPACE?: string;
  readonly K8S_POD_NAME?: string;
  readonly K8S_POD_INFRA_CONTAINER_ID?: string;
  readonly K8S_POD_UID?: string;
  /** A requested address (conventions, CNI_ARGS). */
  readonly IP?: string;
  readonly MAC?: string;
  /** What we do not know, allowed by IgnoreUnknown. */
  readonly unknown: Readonly<Record<string, string>>;
}

interface Common {
  readonly version: CniVersion;
  readonly args: K8sArgs;
  /** Directories of plugins, from CNI_PATH. */
  readonly path: readonly string[];
  readonly config: PluginConf;
  /** Aborted when whoever asked has gone away or the agent stops. */
  readonly signal: AbortSignal;
}

/** ADD, DEL or CHECK of one attachment. */
export interface CniRequest extends Common {
  readonly command: 'ADD' | 'DEL' | 'CHECK';
  readonly containerId: string;
  /** Undefined for a DEL whose namespace is gone. */
  readonly netns: string | undefined;
  readonly ifname: string;
}

export interface CniGcRequest extends Common {
  readonly command: 'GC';
  readonly validAttachments: readonly GcAttachment[];
}

export interface CniStatusRequest extends Common {
  readonly command: 'STATUS';
}

export interface CniVersionRequest {
  readonly command: 'VERSION';
  /** As the asker said it; 1.1.0 when it said none. */
  readonly version: string;
}

type Unsignalled<T> = T extends Common ? Omit<T, 'signal'> : T;
export type DecodedRequest = Unsignalled<CniRequest> | Unsignalled<CniGcRequest> | Unsignalled<CniStatusRequest> | CniVersionRequest;

const env4 = (msg: string, details?: string): CniError => new CniError('INVALID_ENVIRONMENT', msg, details === undefined ? {} : { details });

/** @throws CniError 4 naming the variable */
export function validateContainerId(id: string): string {
  if (id === '') throw env4('CNI_CONTAINERID is empty');
  if (!NAME_PATTERN.test(id)) throw env4('invalid characters in CNI_CONTAINERID', JSON.stringify(id));
  return id;
}

/** @throws CniError 4 naming the variable and the rule */
export function validateIfname(name: string): string {
  const said = `CNI_IFNAME ${JSON.stringify(name)}`;
  if (name === '') throw env4('CNI_IFNAME is empty');
  if (Buffer.byteLength(name) > 15) throw env4('invalid CNI_IFNAME', `${said} is longer than 15 bytes`);
  if (name === '.' || name === '..') throw env4('invalid CNI_IFNAME', `${said} is no name`);
  if (/[/:\s\0]/.test(name)) throw env4('invalid CNI_IFNAME', `${said} contains / or : or white space`);
  return name;
}

const KNOWN = ['K8S_POD_NAMESPACE', 'K8S_POD_NAME', 'K8S_POD_INFRA_CONTAINER_ID', 'K8S_POD_UID', 'IP', 'MAC'] as const;

/**
 * `K=V;K2=V2`. Later wins.
 * @param lenient for DEL: what cannot be read is left out.
 * @throws CniError 4: a pair without `=`, or unknown keys without IgnoreUnknown
 */
export function parseCniArgs(text: string, lenient = false): K8sArgs {
  const known: Partial<Record<(typeof KNOWN)[number], string>> = {};
  const unknown: Record<string, string> = {};
  let ignore = lenient;
  for (const pair of text.split(';').filter(Boolean)) {
    const at = pair.indexOf('=');
    if (at <= 0) {
      if (lenient) continue;
      throw env4('invalid CNI_ARGS', `${JSON.stringify(pair)} is not of the form KEY=VALUE`);
    }
    const [key, value] = [pair.slice(0, at), pair.slice(at + 1)];
    if (key === 'IgnoreUnknown') {
      if (!/^(1|0|true|false)$/i.test(value) && !lenient) throw env4('invalid CNI_ARGS', `IgnoreUnknown=${value} is neither true nor false`);
      ignore = /^(1|true)$/i.test(value);
    } else if ((KNOWN as readonly string[]).includes(key)) known[key as (typeof KNOWN)[number]] = value;
    else unknown[key] = value;
  }
  const names = Object.keys(unknown);
  if (names.length > 0 && !ignore && !lenient) throw env4('invalid CNI_ARGS', `unknown keys ${names.join(', ')}, and IgnoreUnknown=1 is not set`);
  return { IgnoreUnknown: ignore, ...known, unknown };
}

/** `[['K','V']]` to `K=V;…`. @throws CniError 4: what would not come back the same */
export function formatCniArgs(args: readonly (readonly [string, string])[]): string {
  for (const [k, v] of args) {
    if (!/^[^=;\0]+$/.test(k) || /[;\0]/.test(v)) throw env4('invalid CNI_ARGS', `${JSON.stringify(`${k}=${v}`)} has characters that CNI_ARGS cannot carry`);
  }
  return args.map(([k, v]) => `${k}=${v}`).join(';');
}

/** The pod of a request, for a plugin that needs to know it. @throws CniError 4 naming all that is missing */
export function requirePod(args: K8sArgs): { namespace: string; name: string; uid: string | undefined } {
  const missing = (['K8S_POD_NAMESPACE', 'K8S_POD_NAME'] as const).filter((k) => !args[k]);
  if (missing.length > 0) throw env4('CNI_ARGS does not name the pod', `missing ${missing.join(', ')}`);
  return { namespace: args.K8S_POD_NAMESPACE ?? '', name: args.K8S_POD_NAME ?? '', uid: args.K8S_POD_UID };
}

/** The top-level cniVersion of whatever came, for the error that answers it. */
export function versionOf(stdin: string, fallback: string): string {
  try {
    const v = (JSON.parse(stdin) as { cniVersion?: unknown } | null)?.cniVersion;
    return typeof v === 'string' && v !== '' ? v : fallback;
  } catch {
    return fallback;
  }
}

/**
 * Environment, then configuration, then version: the order of the reference skeleton.
 * @throws CniError 4, 6, 7 or 1
 */
export function decodeCniRequest(env: Readonly<Record<string, string>>, stdin: string): DecodedRequest {
  const text = env['CNI_COMMAND'] ?? '';
  if (text === '') throw env4('required env variables [CNI_COMMAND] missing');
  if (!(CNI_COMMANDS as readonly string[]).includes(text)) throw env4(`unknown CNI_COMMAND: ${text}`, `known are ${CNI_COMMANDS.join(', ')}`);
  const command = text as CniCommand;
  if (command === 'VERSION') return { command, version: versionOf(stdin, '1.1.0') };

  const needs: Record<string, readonly string[]> = {
    ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
    CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
    DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  };
  const missing = (needs[command] ?? []).filter((k) => !env[k]);
  if (missing.length > 0) throw env4(`required env variables [${missing.join(',')}] missing`);
  const lenient = command === 'DEL';
  const attachment = needs[command] && { containerId: validateContainerId(env['CNI_CONTAINERID'] ?? ''), ifname: validateIfname(env['CNI_IFNAME'] ?? '') };
  const args = parseCniArgs(env['CNI_ARGS'] ?? '', lenient);
  const config = parsePluginConf(stdin, lenient);
  const version = requireVersion(config.cniVersion, command);
  const common = { version, args, path: (env['CNI_PATH'] ?? '').split(':').filter(Boolean), config };
  if (command === 'GC') {
    if (!config.validAttachments) throw new CniError('INVALID_CONFIG', 'GC without a list of valid attachments', { details: 'cni.dev/valid-attachments: missing' });
    return { command, ...common, validAttachments: config.validAttachments };
  }
  if (command === 'STATUS') return { command, ...common };
  return { command, ...common, containerId: attachment?.containerId ?? '', ifname: attachment?.ifname ?? '', netns: env['CNI_NETNS'] || undefined };
}
