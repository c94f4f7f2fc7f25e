/** Drift: what the nodes' kernels hold between nodes, compared with what the cluster's objects ask for. Changes nothing. */
import { join } from 'node:path';
import type { Change } from '@podway/netstate';
import { defineCommand } from '../command.js';
import { labOption, openLab } from '../lab.js';
import { readNetwork } from '../network.js';

interface Drift {
  readonly node: string;
  readonly finding: 'missing' | 'extra' | 'differs' | 'in the way';
  readonly kind: string;
  readonly object: string;
  readonly reason: string;
}

const FINDING: Readonly<Record<Change['op'], Drift['finding']>> = { create: 'missing', delete: 'extra', change: 'differs', recreate: 'differs', conflict: 'in the way' };

export const command = defineCommand({
  name: 'network check',
  summary: 'Compare what the nodes have with what the cluster wants, entry by entry',
  details: 'Devices, addresses, routes, neighbours, FDB entries, sysctls and firewall of the network between nodes,\nthe rules of Services, and the node\'s side of every pod: host end, host ports, bandwidth.\nThe same comparison as the agents make; a running agent mends what it finds within half a minute.',
  arguments: {},
  options: { ...labOption },
  examples: [['podway network check', 'nothing missing, nothing extra: exit code 0']],
  needsRoot: true,
  view: {
    table: (rows: readonly Drift[]) => ({
      columns: ['NODE', 'FINDING', 'KIND', 'OBJECT', { title: 'REASON', shrink: true }],
      rows: rows.map((r) => [r.node, r.finding, r.kind, r.object, r.reason]),
      empty: 'Every node has what it should have, and nothing else of ours.',
    }),
  },
  async run({ options, setExitCode }) {
    const [
      {
        desiredNode, deviceOf, driftLines, ifbName, isManaged, localNode, nodeEnds, nodesWithRanges, observedTable, parseNetworkConfig, peersOf, planBackends, publishedWireguard, readAttachments,
        serviceEntries, serviceSurroundings, ServiceTable, TABLE, tableDrift,
      },
      { diff, observe, podwayOwnership }, { Netns, readSysctls }, { EndpointSlices, PROXY_NAME_LABEL, serviceKey, serviceKeyOfSlice, serviceModel, Services }, { wireguardDirOf },
    ] = await Promise.all([
      import('@podway/agent'), import('@podway/netstate'), import('@podway/kernel'), import('@podway/kube'), import('@podway/lab/client'),
    ]);
    const lab = await openLab(options.lab);
    try {
      const config = parseNetworkConfig((await readNetwork(lab.client)).text);
      const nodes = await nodesWithRanges(lab.client);
      const [services, slices] = [await lab.client.list(Services), await lab.client.list(EndpointSlices)];
      const found: Drift[] = [];
      for (const { name, holderPid } of lab.state.nodes) {
        const ns = Netns.open({ pid: holderPid }, `node ${name}`);
        try {
          const observed = observe(ns, { wireguardDir: wireguardDirOf(holderPid) });
          const self = nodes.find((n) => n.metadata?.name === name);
          const bare = self && localNode(self, observed);
          if (!bare) {
            found.push({ node: name, finding: 'missing', kind: 'node', object: name, reason: 'it has no pod CIDR or no uplink' });
            continue;
          }
          const local = publishedWireguard(bare, nodeEnds(self), config);
          const plan = planBackends(config, undefined, local, peersOf(nodes, name).peers, observed);
          if (config.proxy === 'none') {
            if (observedTable(observed.nft)) found.push({ node: name, finding: 'extra', kind: 'services', object: TABLE.name, reason: 'Proxy is none' });
          } else {
            const surroundings = serviceSurroundings(config, local);
            const table = new ServiceTable();
            for (const s of services) {
              if (s.metadata?.labels?.[PROXY_NAME_LABEL] !== undefined) continue;
              const model = serviceModel(s, slices.filter((e) => serviceKeyOfSlice(e) === serviceKey(s)));
              table.put(`${s.metadata?.creationTimestamp ?? ''} ${serviceKey(s)}`, serviceEntries(model, surroundings.node));
            }
            for (const d of driftLines(tableDrift(table, observedTable(observed.nft), surroundings.clusterCidrs))) found.push({ node: name, kind: 'services', ...d });
          }
          const attachments = await readAttachments(join(lab.layout.node(name).state, 'attachments'));
          const desired = desiredNode({ config, local, plan, attachments });
          const changes = diff(desired, { ...observed, sysctls: readSysctls(ns, Object.keys(desired.sysctls)) }, podwayOwnership((a) => isManaged(config.clusterCidrs, a)));
          // What an ADD or DEL is at work on is neither missing nor extra: the devices, and what hangs on them.
          const busy = new Set(attachments.filter((r) => r.phase !== 'ready').flatMap((r) => [r.hostIfname, ifbName(r)]));
          for (const c of changes.filter((x) => !busy.has(deviceOf(x) ?? ''))) {
            found.push({ node: name, finding: FINDING[c.op], kind: c.kind, object: c.key, reason: c.reason });
          }
        } finally {
          ns.close();
        }
      }
      if (found.length) setExitCode(1);
      return found;
    } finally {
      lab.client.close();
    }
  },
});
