/**
 * What a container runtime does with a network configuration (SPEC.md section 3): run the
 * plugins of a list one after the other, hand results on, keep the last one.
 *
 * Operations on one container never overlap, and GC runs alone, as the specification asks;
 * different containers go in parallel. After a failed ADD the caller runs DEL, which works
 * without a cached result.
 */
import { PodwayError, messageOf } from '@podway/errors';
import { type AttachmentKey, type CachedAttachment, ResultCache } from './cache.js';
import { type GcAttachment, type NetworkList, type RawPlugin, parseNetworkList } from './config.js';
import { CniError } from './errors.js';
import { type Exec, type FindPlugin, findPlugin, spawnExec } from './exec.js';
import { KeyedLock } from './keyed-lock.js';
import { formatCniArgs, validateContainerId, validateIfname } from './request.js';
import { type VersionedResult, convertResult } from './result.js';
import { type CniCommand, isCniVersion, versionAtLeast } from './versions.js';

/** One attachment, as the runtime knows it. */
export interface AttachmentParams {
  readonly containerId: string;
  /** Path of the network namespace; absent for a DEL after it is gone. */
  readonly netns?: string;
  readonly ifname: string;
  readonly args?: readonly (readonly [string, string])[];
  /** portMappings, bandwidth, ipRanges, dns, mac, ips, aliases, cgroupPath … by capability name. */
  readonly capabilityArgs?: Readonly<Record<string, unknown>>;
}

export interface RunnerOptions {
  /** Directories of plugins, in order. */
  readonly path: readonly string[];
  readonly cacheDir?: string;
  readonly exec?: Exec;
  readonly find?: FindPlugin;
  /** Per plugin. 60 s. */
  readonly timeoutMs?: number;
  /** Environment besides CNI_*. PATH with the sbin directories, since plugins call iptables. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface PluginVersionInfo {
  readonly type: string;
  readonly supportedVersions: readonly string[];
}

const DEFAULT_ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

/** The CNI_ARGS of a Kubernetes pod, in the order dockershim and containerd send them. */
export const podArgs = (pod: { namespace: string; name: string; uid: string; sandboxId: string }): (readonly [string, string])[] => [
  ['IgnoreUnknown', '1'],
  ['K8S_POD_NAMESPACE', pod.namespace],
  ['K8S_POD_NAME', pod.name],
  ['K8S_POD_INFRA_CONTAINER_ID', pod.sandboxId],
  ['K8S_POD_UID', pod.uid],
];

/** The configuration one plugin gets on stdin (SPEC.md section 3, "Deriving request configuration"). Pure. */
export function requestConfig(list: NetworkList, plugin: RawPlugin, add: { prevResult?: unknown; capabilityArgs?: Readonly<Record<string, unknown>>; validAttachments?: readonly GcAttachment[] }): Record<string, unknown> {
  const runtimeConfig = Object.fromEntries(
    Object.entries(plugin.capabilities ?? {})
      .filter(([name, on]) => on && add.capabilityArgs?.[name] !== undefined)
      .map(([name]) => [name, add.capabilityArgs?.[name]]),
  );
  const own = Object.entries(plugin).filter(([k]) => k !== 'capabilities' && k !== 'runtimeConfig' && k !== 'prevResult' && !k.startsWith('cni.dev/'));
  const valid = add.validAttachments?.map((a) => ({ containerID: a.containerId, ifname: a.ifname }));
  return {
    ...Object.fromEntries(own),
    cniVersion: list.cniVersion,
    name: list.name,
    ...(Object.keys(runtimeConfig).length > 0 ? { runtimeConfig } : {}),
    ...(add.prevResult === undefined ? {} : { prevResult: add.prevResult }),
    ...(valid ? { 'cni.dev/valid-attachments': valid, 'cni.dev/attachments': valid } : {}), // both: see config.ts
  };
}

export class ConflistRunner {
  readonly #o: RunnerOptions;
  readonly #cache: ResultCache;
  readonly #exec: Exec;
  readonly #find: FindPlugin;
  readonly #lock = new KeyedLock();

  constructor(options: RunnerOptions) {
    this.#o = options;
    this.#cache = new ResultCache(options.cacheDir);
    this.#exec = options.exec ?? spawnExec();
    this.#find = options.find ?? findPlugin;
  }

  get cache(): ResultCache {
    return this.#cache;
  }

  /** All plugins in order. The result is cached durably before it is returned. @throws CniError of the plugin that failed, named */
  add(list: NetworkList, a: AttachmentParams, signal?: AbortSignal): Promise<VersionedResult> {
    return this.#lock.run(a.containerId, async () => {
      let result: VersionedResult | undefined;
      for (const plugin of list.plugins) {
        const out = await this.#run('ADD', list, plugin, { a, prevResult: result, signal });
        result = this.#readResult(out, list, plugin);
      }
      if (!result) throw new CniError('INVALID_CONFIG', `network ${list.name} has no plugins`);
      await this.#cache.put({
        containerId: a.containerId,
        ifname: a.ifname,
        network: list.name,
        netns: a.netns,
        args: a.args ?? [],
        capabilityArgs: a.capabilityArgs ?? {},
        config: list.source,
        result,
      });
      return result;
    });
  }

  /** All plugins in reverse, with the cached result (from 0.4.0). Args and capabilities default to those of ADD. Unknown attachments are success. */
  del(list: NetworkList, a: AttachmentParams, signal?: AbortSignal): Promise<void> {
    return this.#lock.run(a.containerId, () => this.#del(list, a, signal));
  }

  /** DEL with the very configuration that ADD had, whatever is in the directory now. False when nothing is cached. */
  delCached(key: AttachmentKey, signal?: AbortSignal): Promise<boolean> {
    return this.#lock.run(key.containerId, async () => {
      const cached = await this.#cache.get(key);
      if (!cached) return false;
      await this.#del(parseNetworkList(cached.config), paramsOf(cached), signal);
      return true;
    });
  }

  async #del(list: NetworkList, given: AttachmentParams, signal: AbortSignal | undefined): Promise<void> {
    const key = this.#key(list, given);
    const cached = await this.#cache.get(key);
    const a = cached ? { ...paramsOf(cached), ...given } : given;
    const prevResult = cached && versionAtLeast(list.cniVersion, '0.4.0') ? this.#cachedResult(cached, list, true) : undefined;
    for (const plugin of [...list.plugins].reverse()) await this.#run('DEL', list, plugin, { a, prevResult, signal });
    await this.#cache.remove(key);
  }

  /** All plugins with the cached result. @throws CniError of the plugin that found something wrong; 1 below 0.4.0; 3 when ADD is unknown */
  check(list: NetworkList, given: AttachmentParams, signal?: AbortSignal): Promise<void> {
    return this.#lock.run(given.containerId, async () => {
      if (!versionAtLeast(list.cniVersion, '0.4.0')) {
        throw new CniError('INCOMPATIBLE_VERSION', `configuration version "${list.cniVersion}" does not support CHECK command`);
      }
      if (list.disableCheck) return;
      const cached = await this.#cache.get(this.#key(list, given));
      if (!cached) throw new CniError('UNKNOWN_CONTAINER', `no result of an ADD of ${given.containerId} ${given.ifname} to network ${list.name} is known`);
      const a = { ...paramsOf(cached), ...given };
      const prevResult = this.#cachedResult(cached, list, false);
      for (const plugin of list.plugins) await this.#run('CHECK', list, plugin, { a, prevResult, signal });
    });
  }

  /** DEL for every cached attachment that is not valid any more, then GC to every plugin (from 1.1.0). @throws AggregateError after doing all that could be done */
  gc(list: NetworkList, valid: readonly GcAttachment[], signal?: AbortSignal): Promise<void> {
    return this.#lock.exclusive(async () => {
      if (list.disableGC) return;
      const errors: unknown[] = [];
      const keep = new Set(valid.map((v) => `${v.containerId}/${v.ifname}`));
      for (const cached of await this.#cache.list()) {
        if (cached.network !== list.name || keep.has(`${cached.containerId}/${cached.ifname}`)) continue;
        await this.#del(list, paramsOf(cached), signal).catch((e: unknown) => errors.push(e));
      }
      if (versionAtLeast(list.cniVersion, '1.1.0')) {
        for (const plugin of list.plugins) {
          await this.#run('GC', list, plugin, { validAttachments: valid, signal }).catch((e: unknown) => errors.push(e));
        }
      }
      if (errors.length > 0) throw new AggregateError(errors, `GC of network ${list.name}: ${errors.map(messageOf).join('; ')}`);
    });
  }

  /** Ask every plugin whether it could ADD (from 1.1.0; older lists say nothing). @throws CniError 50 or 51, or the plugin's own */
  async status(list: NetworkList, signal?: AbortSignal): Promise<void> {
    if (!versionAtLeast(list.cniVersion, '1.1.0')) return;
    for (const plugin of list.plugins) await this.#run('STATUS', list, plugin, { signal });
  }

  /** Which versions each plugin of the list speaks. */
  async versions(list: NetworkList, signal?: AbortSignal): Promise<PluginVersionInfo[]> {
    return Promise.all(
      list.plugins.map(async (plugin) => {
        const out = await this.#run('VERSION', list, plugin, { signal });
        const info = JSON.parse(out) as { supportedVersions?: unknown };
        return { type: plugin.type, supportedVersions: Array.isArray(info.supportedVersions) ? info.supportedVersions.map(String) : [] };
      }),
    );
  }

  #key(list: NetworkList, a: AttachmentParams): AttachmentKey {
    return { network: list.name, containerId: validateContainerId(a.containerId), ifname: validateIfname(a.ifname) };
  }

  /** In the list's version; when it cannot be read, DEL goes on without it. */
  #cachedResult(cached: CachedAttachment, list: NetworkList, lenient: boolean): VersionedResult | undefined {
    if (cached.result.cniVersion === list.cniVersion || !isCniVersion(list.cniVersion)) return cached.result;
    try {
      return convertResult(cached.result, list.cniVersion, 'the cached result');
    } catch (e) {
      if (lenient) return undefined;
      throw e;
    }
  }

  /** A result of the list's own version is handed on as it is, whatever else it carries. */
  #readResult(out: string, list: NetworkList, plugin: RawPlugin): VersionedResult {
    const what = `the result of plugin ${plugin.type}`;
    let json: VersionedResult;
    try {
      json = JSON.parse(out) as VersionedResult;
    } catch (e) {
      throw new CniError('DECODING_FAILURE', `${what} is not JSON`, { details: `${messageOf(e)}: ${out.slice(0, 200)}` });
    }
    if (!isCniVersion(list.cniVersion)) throw new CniError('INCOMPATIBLE_VERSION', 'incompatible CNI versions', { details: list.cniVersion });
    const converted = convertResult(json, list.cniVersion, what);
    return (json.cniVersion ?? list.cniVersion) === list.cniVersion ? { ...json, cniVersion: list.cniVersion } : converted;
  }

  async #run(
    command: CniCommand,
    list: NetworkList,
    plugin: RawPlugin,
    with_: { a?: AttachmentParams; prevResult?: unknown; validAttachments?: readonly GcAttachment[]; signal: AbortSignal | undefined },
  ): Promise<string> {
    const { a } = with_;
    const what = `plugin type="${plugin.type}" failed (${command.toLowerCase()})`;
    if (a) this.#key(list, a);
    const config = command === 'VERSION' ? { cniVersion: list.cniVersion } : requestConfig(list, plugin, { ...with_, capabilityArgs: a?.capabilityArgs ?? {} });
    const env = {
      ...DEFAULT_ENV,
      ...this.#o.env,
      CNI_COMMAND: command,
      CNI_CONTAINERID: a?.containerId ?? '',
      CNI_NETNS: a?.netns ?? '',
      CNI_IFNAME: a?.ifname ?? '',
      CNI_ARGS: formatCniArgs(a?.args ?? []),
      CNI_PATH: this.#o.path.join(':'),
    };
    const timeoutMs = this.#o.timeoutMs ?? 60_000;
    const timeout = AbortSignal.timeout(timeoutMs);
    const signal = with_.signal ? AbortSignal.any([with_.signal, timeout]) : timeout;
    let out;
    try {
      out = await this.#exec(await this.#find(plugin.type, this.#o.path), env, JSON.stringify(config), signal);
    } catch (e) {
      if (timeout.aborted) throw new CniError('TRY_AGAIN_LATER', what, { details: `no answer within ${timeoutMs / 1000} s`, cause: e });
      if (e instanceof PodwayError && !(e instanceof CniError)) throw new PodwayError(e.code, what, { said: e.message, cause: e, ...(e.hint ? { hint: e.hint } : {}) });
      throw e;
    }
    if (out.code === 0) return out.stdout;
    throw pluginError(what, out);
  }
}

const paramsOf = (c: CachedAttachment): AttachmentParams => ({
  containerId: c.containerId,
  ifname: c.ifname,
  ...(c.netns === undefined ? {} : { netns: c.netns }),
  args: c.args,
  capabilityArgs: c.capabilityArgs,
});

/** The plugin's own error JSON, or, where there is none, what it printed. stderr is kept in the details. */
function pluginError(what: string, out: { code: number; stdout: string; stderr: string }): CniError {
  const stderr = out.stderr.trim();
  try {
    const e = JSON.parse(out.stdout) as { code?: unknown; msg?: unknown; details?: unknown };
    if (typeof e.code === 'number' && typeof e.msg === 'string') {
      const details = [e.details, stderr && `stderr: ${stderr}`].filter((s) => typeof s === 'string' && s !== '').join('; ');
      return new CniError(e.code, `${what}: ${e.msg}`, details ? { details } : {});
    }
  } catch {
    // not an error document: told below
  }
  const said = stderr || out.stdout.trim();
  return new CniError('INTERNAL', what, { details: said ? `exit code ${out.code}, no error document: ${said.slice(0, 2000)}` : `exit code ${out.code}, netplugin failed with no error message` });
}
