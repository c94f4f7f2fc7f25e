/**
 * PodNetwork by CNI, as containerd does it: the first configuration list of the node, its plugins
 * run in the node's mount, network and pid namespaces (`nsenter -t HOLDER -m -n -p -- /opt/cni/bin/PLUGIN`): plugins written in
 * Go look themselves up in /proc, which is the node's.
 * Cost per plugin call: one spawn, about 4 ms, and what the plugin takes.
 */
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { ConflistRunner, DEFAULT_CONF_DIR, loadNetwork, podArgs, spawnExec, type AttachmentParams, type NetworkList, type VersionedResult } from '@podway/cni';
import { PodwayError, isPodwayError, messageOf } from '@podway/errors';
import type { NetworkStatus, PodNetwork, SandboxAttachment } from './types.js';

export interface CniNetworkOptions {
  /** Path of podway-init. */
  readonly init: string;
  readonly holderPid: number;
  /** The node's /etc/cni/net.d, as the machine sees it. */
  readonly confDir: string;
  /** CNI_PATH: directories of plugins as the node sees them, and where that is on the machine. */
  readonly path: readonly { readonly inNode: string; readonly onMachine: string }[];
  /** Results of ADD, for CHECK, DEL and GC. On the machine. */
  readonly cacheDir: string;
}

const IFNAME = 'eth0';

/** Addresses that a result gives to the sandbox, without prefix length, in order. Pure. */
export function addressesOf(result: VersionedResult): string[] {
  const { ips, interfaces } = result;
  return (ips ?? [])
    .filter((ip) => ip.interface === undefined || interfaces === undefined || Boolean(interfaces[ip.interface]?.sandbox))
    .map((ip) => ip.address.split('/')[0] ?? '')
    .filter((a) => a !== '');
}

export class CniNetwork implements PodNetwork {
  private readonly runner: ConflistRunner;

  constructor(private readonly o: CniNetworkOptions) {
    this.runner = new ConflistRunner({
      path: o.path.map((p) => p.inNode),
      cacheDir: o.cacheDir,
      exec: spawnExec([o.init, 'exec', '--target', String(o.holderPid), '-m', '-n', '-p', '--']),
      find: (type) => this.find(type),
    });
  }

  private async find(type: string): Promise<string> {
    for (const p of this.o.path) {
      const there = await access(join(p.onMachine, type), constants.X_OK).then(() => true, () => false);
      if (there) return join(p.inNode, type);
    }
    throw new PodwayError('CNI_PLUGIN_MISSING', `failed to find plugin "${type}" in path [${this.o.path.map((p) => p.inNode).join(' ')}]`, {
      object: type, hint: `Install the executable ${type} into one of these directories of the node.`,
    });
  }

  async add(sandbox: SandboxAttachment): Promise<{ ips: readonly string[] }> {
    const list = await this.network();
    const ips = addressesOf(await this.runner.add(list, attachment(sandbox)));
    if (ips.length === 0) throw new PodwayError('CNI_NO_ADDRESS', `network ${list.name} gave the pod no address`, { object: `sandbox ${sandbox.sandboxId}` });
    return { ips };
  }

  /** With the configuration that ADD had; where nothing is known of an ADD, with the present one. */
  async del(sandbox: SandboxAttachment): Promise<void> {
    const a = attachment(sandbox);
    const known = (await this.runner.cache.list()).filter((c) => c.containerId === sandbox.sandboxId);
    for (const c of known) await this.runner.delCached(c);
    if (known.length > 0) return;
    const list = await this.network().catch((e: unknown) => {
      if (isPodwayError(e, 'CNI_NO_NETWORK')) return undefined; // no network, so no attachment either
      throw e;
    });
    if (list) await this.runner.del(list, a);
  }

  async status(): Promise<NetworkStatus> {
    try {
      await this.runner.status(await this.network());
      return { ready: true };
    } catch (e) {
      if (!isPodwayError(e, 'CNI_NO_NETWORK')) return { ready: false, message: messageOf(e) };
      // containerd's words: tutorials and searches know them.
      return { ready: false, message: `cni plugin not initialized${e.said === undefined ? '' : `: ${e.said}`}` };
    }
  }

  /** Errors: PodwayError CNI_NO_NETWORK, with paths as the node sees them. */
  private async network(): Promise<NetworkList> {
    try {
      return (await loadNetwork(this.o.confDir)).list;
    } catch (e) {
      if (!isPodwayError(e, 'CNI_NO_NETWORK')) throw e;
      const inNode = (t: string): string => t.replaceAll(this.o.confDir, DEFAULT_CONF_DIR);
      throw new PodwayError(e.code, `no ${e.said === undefined ? '' : 'valid '}networks found in ${DEFAULT_CONF_DIR}`, {
        object: DEFAULT_CONF_DIR, cause: e, ...(e.said === undefined ? {} : { said: inNode(e.said) }), ...(e.hint === undefined ? {} : { hint: inNode(e.hint) }),
      });
    }
  }
}

function attachment(s: SandboxAttachment): AttachmentParams {
  return {
    containerId: s.sandboxId, netns: s.netns, ifname: IFNAME, args: podArgs(s),
    capabilityArgs: { ...(s.portMappings?.length ? { portMappings: s.portMappings } : {}), ...(s.bandwidth ? { bandwidth: s.bandwidth } : {}) },
  };
}
