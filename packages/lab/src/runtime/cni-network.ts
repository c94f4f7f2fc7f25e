/**
 * The pod network of a lab node as its CNI configuration says: what kubelet and containerd do with
 * /etc/cni/net.d. Plugins are executed inside the node's mount and network namespaces.
 */
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { ConflistRunner, DEFAULT_CONF_DIR, loadNetwork, podArgs, spawnExec, type AttachmentParams, type NetworkList } from '@podway/cni';
import { PodwayError, messageOf } from '@podway/errors';
import type { NetworkStatus, PodNetwork, SandboxAttachment } from './types.js';

export interface CniNetworkOptions {
  /** Path of podway-init. */
  readonly init: string;
  readonly holderPid: number;
  /** The node's /etc/cni/net.d, on the machine. */
  readonly confDir: string;
  /** Directories of plugins: as the node sees them, and where that is on the machine. */
  readonly path: readonly { readonly inNode: string; readonly onMachine: string }[];
  readonly cacheDir: string;
}

const IFNAME = 'eth0';

export class CniNetwork implements PodNetwork {
  private readonly runner: ConflistRunner;

  constructor(private readonly o: CniNetworkOptions) {
    this.runner = new ConflistRunner({
      path: o.path.map((p) => p.inNode),
      cacheDir: o.cacheDir,
      exec: spawnExec([o.init, 'exec', '--target', String(o.holderPid), '-m', '-n', '--']),
      find: (type) => this.find(type),
    });
  }

  private async find(type: string): Promise<string> {
    for (const p of this.o.path) {
      try {
        await access(join(p.onMachine, type), constants.X_OK);
        return join(p.inNode, type);
      } catch {
        // Not in this one.
      }
    }
    const where = this.o.path.map((p) => p.inNode).join(' ');
    throw new PodwayError('CNI_PLUGIN_MISSING', `failed to find plugin "${type}" in path [${where}]`, {
      object: type, hint: `Put the executable ${type} into ${this.o.path[0]?.inNode ?? 'the plugin directory'} of the node.`,
    });
  }

  private params(s: SandboxAttachment): AttachmentParams {
    return { containerId: s.sandboxId, netns: s.netns, ifname: IFNAME, args: podArgs(s) };
  }

  async add(sandbox: SandboxAttachment): Promise<{ readonly ips: readonly string[] }> {
    const { list } = await loadNetwork(this.o.confDir);
    const result = await this.runner.add(list, this.params(sandbox));
    return { ips: (result.ips ?? []).map((i) => i.address.split('/')[0] ?? '') };
  }

  /** With the configuration that ADD had; what is in the directory now serves when nothing is cached. */
  async del(sandbox: SandboxAttachment): Promise<void> {
    const network = await this.network();
    // A node that has no network (yet) has wired nothing.
    if ('reason' in network) return;
    const params = this.params(sandbox);
    if (!(await this.runner.delCached({ ...params, network: network.list.name }))) await this.runner.del(network.list, params);
  }

  private async network(): Promise<{ readonly list: NetworkList } | { readonly reason: string }> {
    try {
      return { list: (await loadNetwork(this.o.confDir)).list };
    } catch (e) {
      // In the node's words: the directory is known there by its usual name.
      return { reason: `cni plugin not initialized: ${messageOf(e).replaceAll(this.o.confDir, DEFAULT_CONF_DIR)}` };
    }
  }

  async status(): Promise<NetworkStatus> {
    const network = await this.network();
    if ('reason' in network) return { ready: false, message: network.reason };
    try {
      await this.runner.status(network.list);
      return { ready: true };
    } catch (e) {
      return { ready: false, message: messageOf(e) };
    }
  }
}
