/** The programs that the backends in use need on this node, and the order between them and the kernel's objects. */
import { join } from 'node:path';
import { backendOf, type LocalNode } from '../backends/index.js';
import { birdDaemonControl } from '../bgp/index.js';
import { Supervisor, type DaemonEvent, type DaemonPlace, type DaemonSpec } from '../daemons/index.js';
import { WIREGUARD_GO, wireguardGoControl } from '../wireguard/index.js';
import type { BackendPlan } from './transition.js';

export interface NodeDaemonsOptions {
  readonly stateDir: string;
  /** Where WireGuard programs have their sockets. */
  readonly wireguardDir: string;
  /** Words in front of a program of a device: what puts it into namespaces that are not the agent's own. */
  readonly wrap: readonly string[];
  /** For those without a device. */
  readonly place?: DaemonPlace | undefined;
  readonly emit: (e: DaemonEvent) => void;
  /** Makes a device, if it is not there. */
  readonly make: (device: string) => void;
  /** The program of a device has started, and its device is to be set anew. */
  readonly unset: () => void;
}

export class NodeDaemons {
  private supervisor: Supervisor | undefined;

  constructor(private readonly o: NodeDaemonsOptions) {}

  /** Pure but for the wrapping. */
  specs(local: LocalNode, plan: Pick<BackendPlan, 'parts'>): DaemonSpec[] {
    const specs = plan.parts.flatMap((p) => backendOf(p.config).daemons?.(p.config, local, p.peers, this.o.place) ?? []);
    return specs.map((s) => (s.device === undefined ? s : { ...s, argv: [...this.o.wrap, ...s.argv] }));
  }

  /**
   * Starts what works on devices, before they can be set; ends nothing, since routes may still lead there.
   * @returns whether there was any to start
   */
  async serveDevices(specs: readonly DaemonSpec[]): Promise<boolean> {
    const running = this.supervisor?.running() ?? {};
    const missing = specs.filter((s) => s.device !== undefined && running[s.name] === undefined);
    if (missing.length) await this.get().besides(missing);
    return missing.length > 0;
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
      dir: join(this.o.stateDir, 'daemons'), controls: { bird: birdDaemonControl, [WIREGUARD_GO]: wireguardGoControl(this.o.wireguardDir, this.o.make) },
      emit: (e) => {
        this.o.emit(e);
        if (e.type === 'daemon-started' && e.daemon.startsWith(`${WIREGUARD_GO}-`)) this.o.unset();
      },
    }));
  }
}
