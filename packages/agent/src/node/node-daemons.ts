/** The programs that the backends in use need on this node, and the order between them and the kernel's objects. */
import { join } from 'node:path';
import { backendOf, type LocalNode } from '../backends/index.js';
import { birdDaemonControl } from '../bgp/index.js';
import { Supervisor, type DaemonEvent, type DaemonSpec } from '../daemons/index.js';
import { WIREGUARD_GO, wireguardGoControl } from '../wireguard/index.js';
import type { BackendPlan } from './transition.js';

export interface NodeDaemonsOptions {
  readonly stateDir: string;
  /** Where WireGuard programs have their sockets. */
  readonly wireguardDir: string;
  /** Words in front of a program of a device: what puts it into namespaces that are not the agent's own. */
  readonly wrap: readonly string[];
  readonly emit: (e: DaemonEvent) => void;
  /** The program of a device has started, and its device is to be set anew. */
  readonly unset: () => void;
}

export class NodeDaemons {
  private supervisor: Supervisor | undefined;

  constructor(private readonly o: NodeDaemonsOptions) {}

  /** Pure but for the wrapping. */
  specs(local: LocalNode, plan: Pick<BackendPlan, 'parts'>): DaemonSpec[] {
    const specs = plan.parts.flatMap((p) => backendOf(p.config).daemons?.(p.config, local, p.peers) ?? []);
    return specs.map((s) => (s.device === undefined ? s : { ...s, argv: [...this.o.wrap, ...s.argv] }));
  }

  /** Devices whose program does not run yet: they must be made, and it started, before they can be set. */
  missing(specs: readonly DaemonSpec[]): string[] {
    const running = this.supervisor?.running() ?? {};
    return specs.flatMap((s) => (s.device !== undefined && running[s.name] === undefined ? [s.device] : []));
  }

  /** Starts what works on devices; ends nothing, since routes may still lead there. */
  async serveDevices(specs: readonly DaemonSpec[]): Promise<void> {
    await this.get().besides(specs.filter((s) => s.device !== undefined));
  }

  /** Exactly these. Nothing is started for backends that need nothing. */
  async apply(specs: readonly DaemonSpec[]): Promise<void> {
    if (specs.length || this.supervisor) await this.get().apply(specs);
  }

  async close(): Promise<void> {
    await this.supervisor?.close();
  }

  private get(): Supervisor {
    return (this.supervisor ??= new Supervisor({
      dir: join(this.o.stateDir, 'daemons'), controls: { bird: birdDaemonControl, [WIREGUARD_GO]: wireguardGoControl(this.o.wireguardDir) },
      emit: (e) => {
        this.o.emit(e);
        if (e.type === 'daemon-started' && e.daemon.startsWith(`${WIREGUARD_GO}-`)) this.o.unset();
      },
    }));
  }
}
