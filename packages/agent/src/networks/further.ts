/**
 * Further interfaces of a pod, made by whatever plugin their network names: what Multus does, done by the agent, so
 * that every runtime has it.
 *
 * Each network's configuration is written into the attachment's record before its plugin runs, and runs again
 * for CHECK, DEL and GC from there: a network object that was changed or deleted meanwhile changes nothing for
 * pods that have it. A crash at any instruction leaves a record that says what may have been made.
 *
 * Podway's own plugin is not started as a program here but called: GC has the socket to itself.
 */
import { basename, join } from 'node:path';
import { CniError, ConflistRunner, decodeCniRequest, findPlugin, parseNetworkList, parseResult, podArgs, resultTo, spawnExec, toCniError, type AttachmentParams, type CniRequest, type CniResult, type Exec, type FindPlugin } from '@podway/cni';
import { isPodwayError, messageOf, PodwayError } from '@podway/errors';
import { RtNetlink, type Netns } from '@podway/kernel';
import { NetworkAttachmentDefinitions, type ObjectClient } from '@podway/kube';
import { ALIAS_PREFIX } from '@podway/netstate';
import type { AttachmentRecord, FurtherNetwork } from '../ipam/index.js';
import type { NetworkSelection } from './selection.js';
import { networkStatus, type NetworkStatus } from './status.js';

/** Our own plugin's name, and the one of a network that is ours to serve where the plugin itself is not on the node. */
const OWN = 'podway-cni';
const FLANNEL = 'flannel';
/** Where distributions put plugins, besides the directories of the runtime. */
const USUAL_PLACES = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];

/** One attachment, without further networks: the agent's own verbs. */
export interface OwnVerbs {
  add(req: CniRequest): Promise<CniResult>;
  del(req: CniRequest): Promise<void>;
  check(req: CniRequest): Promise<void>;
}

export interface FurtherContext {
  readonly node: Netns;
  readonly client: ObjectClient;
  readonly stateDir: string;
  readonly own: OwnVerbs;
}

export class FurtherNetworks {
  constructor(private readonly c: FurtherContext) {}

  /** The networks as they are now in the API, ready to be recorded. @throws CniError 7 naming the network */
  async resolve(selections: readonly NetworkSelection[], path: readonly string[]): Promise<FurtherNetwork[]> {
    return Promise.all(selections.map(async (s): Promise<FurtherNetwork> => {
      const network = `${s.namespace}/${s.name}`;
      const config = await this.configOf(network, s);
      const n = {
        network, ifname: s.ifname, config, path: [...new Set([...path, ...USUAL_PLACES])],
        ...(s.ips.length ? { ips: [...s.ips] } : {}), ...(s.mac === undefined ? {} : { mac: s.mac }),
      };
      // Before anything is begun: a plugin that is not there could not undo either.
      await this.told(n, () => Promise.all(parseNetworkList(config).plugins.map((p) => find(p.type, n.path))));
      this.needDevices(n);
      return n;
    }));
  }

  /** The plugins say "Link not found" and not which. @throws CniError 7 naming the device and those there are */
  private needDevices(n: FurtherNetwork): void {
    const wanted = parseNetworkList(n.config).plugins.flatMap((p) => ['master', 'device'].map((k) => p[k]).filter((v) => typeof v === 'string' && v !== ''));
    if (wanted.length === 0) return;
    const links = RtNetlink.with(this.c.node, (nl) => nl.links()).filter((l) => l.kind !== 'veth' || !l.alias?.startsWith(ALIAS_PREFIX)).map((l) => l.name);
    const missing = wanted.find((d) => !links.includes(d as string));
    if (missing === undefined) return;
    throw new CniError('INVALID_CONFIG', `network ${n.network} (${n.ifname}): there is no device ${String(missing)} on this node`, {
      object: n.network, hint: `Devices of this node: ${links.filter((l) => l !== 'lo').join(', ')}`,
    });
  }

  private async configOf(network: string, s: NetworkSelection): Promise<string> {
    let text: string;
    try {
      text = (await this.c.client.get(NetworkAttachmentDefinitions, s.name, s.namespace)).spec?.config ?? '';
    } catch (e) {
      if (!isPodwayError(e, 'KUBE_NOT_FOUND')) throw e;
      throw new CniError('INVALID_CONFIG', `there is no network ${network}`, {
        object: network, details: messageOf(e), hint: 'kubectl get network-attachment-definitions -A shows which there are.',
      });
    }
    try {
      // A configuration without a name has that of its object.
      const named = JSON.stringify({ name: s.name, ...(JSON.parse(text) as object) });
      parseNetworkList(named);
      return named;
    } catch (e) {
      throw new CniError('INVALID_CONFIG', `the configuration of network ${network} cannot be used`, { object: network, details: messageOf(e), cause: e });
    }
  }

  /** All of them, in order. @throws CniError of the plugin, with the network in front; the caller undoes */
  async add(r: AttachmentRecord, networks: readonly FurtherNetwork[], signal: AbortSignal): Promise<NetworkStatus[]> {
    const made: NetworkStatus[] = [];
    for (const n of networks) {
      const list = parseNetworkList(n.config);
      const result = await this.told(n, () => this.runner(n).add(list, params(r, n), signal));
      made.push(networkStatus(n.network, n.ifname, parseResult(result, `the result of network ${n.network}`), false));
    }
    return made;
  }

  /** @returns in words, what CHECK of each found; networks below 0.4.0 know no CHECK. */
  async check(r: AttachmentRecord, signal: AbortSignal): Promise<string[]> {
    const said: string[] = [];
    for (const n of r.networks ?? []) {
      const list = parseNetworkList(n.config);
      if (list.cniVersion < '0.4.0') continue;
      await this.told(n, () => this.runner(n).check(list, params(r, n), signal)).catch((e: unknown) => said.push(messageOf(e)));
    }
    return said;
  }

  /** All of them, the last one first, also when one fails. @throws CniError with everything that could not be taken away */
  async del(r: AttachmentRecord, signal?: AbortSignal): Promise<void> {
    const failed: string[] = [];
    for (const n of [...(r.networks ?? [])].reverse()) {
      const list = parseNetworkList(n.config);
      await this.told(n, () => this.runner(n).del(list, params(r, n), signal)).catch((e: unknown) => failed.push(messageOf(e)));
    }
    if (failed.length) throw new CniError('IO_FAILURE', 'further networks could not be taken away', { details: failed.join('; ') });
  }

  private async told<T>(n: FurtherNetwork, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (e) {
      const cni = toCniError(e);
      const details = [cni.details, e instanceof PodwayError ? e.said : undefined].find((d) => d !== undefined && d !== '');
      throw new CniError(cni.cniCode, `network ${n.network} (${n.ifname}): ${cni.msg}`, {
        object: n.network, cause: e, ...(details === undefined ? {} : { details }), ...(cni.hint === undefined ? {} : { hint: cni.hint }),
      });
    }
  }

  private runner(n: FurtherNetwork): ConflistRunner {
    return new ConflistRunner({
      path: n.path, cacheDir: join(this.c.stateDir, 'networks'), exec: this.exec, find,
    });
  }

  private readonly exec: Exec = (plugin, env, stdin, signal) =>
    // Forked inside the node's namespace, where the devices are that a configuration names; its end is awaited outside.
    basename(plugin) === OWN ? this.call(env, stdin, signal) : this.c.node.run(() => ({ ended: spawnExec()(plugin, env, stdin, signal) })).ended;

  private async call(env: Readonly<Record<string, string>>, stdin: string, signal: AbortSignal): Promise<{ code: number; stdout: string; stderr: string }> {
    try {
      const decoded = decodeCniRequest(env, stdin);
      if (!('containerId' in decoded)) throw new CniError('INVALID_ENVIRONMENT', `${decoded.command} is not asked of one network`);
      const req: CniRequest = { ...decoded, signal };
      const own = this.c.own;
      if (req.command === 'ADD') return { code: 0, stdout: JSON.stringify(resultTo(await own.add(req), req.version)), stderr: '' };
      await (req.command === 'DEL' ? own.del(req) : own.check(req));
      return { code: 0, stdout: '', stderr: '' };
    } catch (e) {
      return { code: 1, stdout: JSON.stringify(toCniError(e).toCni('1.1.0')), stderr: '' };
    }
  }
}

const find: FindPlugin = async (type, path) => {
  if (type === OWN) return OWN;
  try {
    return await findPlugin(type, path);
  } catch (e) {
    if (type === FLANNEL && isPodwayError(e, 'CNI_PLUGIN_MISSING')) return OWN;
    throw e;
  }
};

/** The pod's own arguments, and what was asked of this network; offered both ways plugins know. */
function params(r: AttachmentRecord, n: FurtherNetwork): AttachmentParams {
  const pod = r.pod ? podArgs({ namespace: r.pod.namespace, name: r.pod.name, uid: r.pod.uid ?? '', sandboxId: r.containerId }) : [['IgnoreUnknown', '1'] as const];
  return {
    containerId: r.containerId, netns: r.netns, ifname: n.ifname,
    args: [...pod, ...(n.ips?.[0] === undefined ? [] : [['IP', n.ips[0]] as const]), ...(n.mac === undefined ? [] : [['MAC', n.mac] as const])],
    capabilityArgs: { ...(n.ips === undefined ? {} : { ips: n.ips }), ...(n.mac === undefined ? {} : { mac: n.mac }) },
  };
}
