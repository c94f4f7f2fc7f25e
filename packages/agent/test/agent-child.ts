/**
 * A node agent in a process of its own, to be killed: it works in the namespace at `netns`, with the
 * Nodes it is given for an API. It says `loaded` when its code is, begins at the first line on stdin,
 * and from then on writes one JSON line an event. Further lines change what the API says:
 * `{"put": NODE}`, `{"remove": "m2"}`.
 */
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Netns } from '@podway/kernel';
import { EndpointSlices, Nodes, Services, type EndpointSlice, type Node, type Service } from '@podway/kube';
import { Agent } from '../src/index.js';
import { MemoryClient } from './memory-client.js';

export interface ChildOptions {
  readonly node: string;
  readonly netns: string;
  readonly network: string;
  readonly socketPath: string;
  readonly stateDir: string;
  readonly cniConfDir: string;
  readonly nodes: readonly Node[];
  readonly services?: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
  /** As if the API could not be reached. */
  readonly down?: boolean;
}

type Order = { readonly put?: Node; readonly remove?: string };

const { netns, nodes, services, slices, down, ...options } = JSON.parse(process.argv[2] ?? '{}') as ChildOptions;
const say = (what: object): void => void writeSync(1, `${JSON.stringify(what)}\n`);
const client = new MemoryClient();
for (const n of nodes) client.put(Nodes, n);
for (const s of services ?? []) client.put(Services, s);
for (const s of slices ?? []) client.put(EndpointSlices, s);
client.down = down ?? false;
let agent: Agent | undefined;

say({ type: 'loaded' });
createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (!agent) {
      void Agent.start({ ...options, client, netns: Netns.open({ path: netns }), emit: say }).then((a) => (agent = a));
      return;
    }
    const order = JSON.parse(line) as Order;
    if (order.put) client.put(Nodes, order.put);
    if (order.remove !== undefined) client.remove(Nodes, order.remove);
  })
  // Whoever started this process is gone: end with it.
  .on('close', () => process.exit(0));
