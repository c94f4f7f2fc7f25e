/** A Service in full: how it is reached, who is behind it, and the rules of a node that lead there, in the order a packet meets them. */
import { defineCommand, required, text } from '../command.js';
import type { NftObject } from '@podway/kernel';
import { usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import { findService } from '../services.js';
import { renderTable } from '../table.js';

interface EndpointRow {
  readonly port: string;
  readonly endpoint: string;
  readonly node: string | undefined;
  readonly pod: string | undefined;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Takes new connections from anywhere in the cluster. */
  readonly used: boolean;
}

interface RuleRow {
  readonly hook: string | undefined;
  readonly chain: string;
  readonly rule: string;
  readonly elements: readonly { readonly set: string; readonly element: string; readonly connections: number | undefined }[];
}

interface ServiceView {
  readonly service: string;
  readonly type: string;
  readonly facts: readonly (readonly [string, string])[];
  readonly addresses: readonly { readonly kind: string; readonly address: string; readonly port: number; readonly protocol: string; readonly name: string }[];
  readonly endpoints: readonly EndpointRow[];
  readonly node: string;
  readonly rules: readonly RuleRow[];
  /** In what the node's table differs from what the API wants for this Service. */
  readonly drift: readonly string[];
}

const yes = (b: boolean): string => (b ? 'yes' : 'no');

export const command = defineCommand({
  name: 'service',
  summary: 'Show how a Service is reached: addresses, endpoints, and the rules of a node with their counters',
  details: 'The rules are those of the kernel, in the order in which the first packet of a connection meets them, with the\nelements of this Service. The number behind an element counts connections that it decided on that node.',
  arguments: { name: required('the Service, or NAMESPACE/NAME') },
  options: { ...labOption, namespace: text('NAME', 'namespace of the Service', { short: '-n', default: 'default' }), node: text('NAME', 'the node whose rules are shown (default: the first)', { complete: 'nodes' }) },
  examples: [['podway service web', 'addresses, endpoints, rules'], ['podway service kubernetes --node m2', 'as node m2 has it'], ['podway service web -o json', 'for programs']],
  needsRoot: true,
  view: {
    text(v: ServiceView, style) {
      const { theme } = style;
      const block = (columns: readonly string[], rows: readonly (readonly string[])[]): string => renderTable({ columns, rows }, style.width, theme.strong).split('\n').map((l) => `  ${l}`).join('\n');
      return [
        `${theme.name(v.service)}  ${v.type}`,
        ...v.facts.map(([k, t]) => `  ${k.padEnd(24)} ${t}`),
        '',
        theme.strong('Addresses'),
        v.addresses.length ? block(['KIND', 'ADDRESS', 'PORT', 'NAME'], v.addresses.map((a) => [a.kind, a.address, `${a.port}/${a.protocol}`, a.name || '-'])) : '  none',
        '',
        theme.strong('Endpoints'),
        v.endpoints.length
          ? block(['PORT', 'ENDPOINT', 'NODE', 'POD', 'READY', 'SERVING', 'TERMINATING', 'USED'], v.endpoints.map((e) => [e.port, e.endpoint, e.node ?? '-', e.pod ?? '-', yes(e.ready), yes(e.serving), yes(e.terminating), yes(e.used)]))
          : '  none: whoever connects is refused at once',
        '',
        theme.strong(`Rules on node ${v.node}, in the order a packet meets them`),
        ...(v.rules.length ? v.rules.flatMap((r, i) => [
          ...(r.chain === v.rules[i - 1]?.chain ? [] : [`  chain ${r.chain}${r.hook === undefined ? '' : `  (${r.hook})`}`]),
          `    ${r.rule}`,
          ...r.elements.map((e) => theme.dim(`      @${e.set}  ${e.element}${e.connections === undefined ? '' : `   ${e.connections} connections`}`)),
        ]) : ['  none: the node has no rules for Services']),
        ...(v.drift.length ? ['', theme.bad('Differs from what the API wants'), ...v.drift.map((d) => `  ${d}`)] : []),
      ].join('\n');
    },
    json: (v) => v,
  },
  async run({ args, options, setExitCode }) {
    const [agent, { serviceModel, usableEndpoints }, { Netns, Nftables }, { isPodwayError }, { explainRules }] = await Promise.all([
      import('@podway/agent'), import('@podway/kube'), import('@podway/kernel'), import('@podway/errors'), import('../service-rules.js'),
    ]);
    const lab = await openLab(options.lab);
    try {
      const { service, slices } = await findService(lab.client, args.name, options.namespace);
      const nodeState = options.node === undefined ? lab.state.nodes[0] : lab.state.nodes.find((n) => n.name === options.node);
      if (!nodeState) throw usageError(`there is no node ${options.node ?? ''}`, `Nodes: ${lab.state.nodes.map((n) => n.name).join(', ')}`);
      const model = serviceModel(service, slices);
      const node = { name: nodeState.name, addresses: [nodeState.address] };
      const ns = Netns.open({ pid: nodeState.holderPid }, `node ${nodeState.name}`);
      let listed: readonly NftObject[] = [];
      try {
        listed = Nftables.with(ns, (nft) => nft.list(agent.TABLE));
      } catch (e) {
        if (!isPodwayError(e, 'NFT_NOT_FOUND')) throw e;
      } finally {
        ns.close();
      }
      const wanted = agent.serviceEntries(model, node);
      const observed = agent.observedTable(listed);
      const drift = observed === undefined ? ['the node has no table for Services'] : wanted.flatMap((e) => {
        const is = observed.elements.get(e.set)?.get(e.key);
        return is === e.value ? [] : [`${e.set} { ${e.key} } is ${is === undefined ? 'missing' : is || 'there'}${e.value ? `, must be ${e.value}` : ''}`];
      });
      if (drift.length) setExitCode(1);
      const families = ['IPv4', 'IPv6'] as const;
      return {
        service: `${model.namespace}/${model.name}`, type: `${model.type}${model.headless ? ' (headless)' : ''}`,
        facts: [
          ...(service.spec?.selector ? [['selector', Object.entries(service.spec.selector).map(([k, v]) => `${k}=${v}`).join(',')] as const] : []),
          ...(model.externalName === undefined ? [] : [['external name', model.externalName] as const]),
          ...(model.internalTrafficPolicy === 'Local' ? [['internalTrafficPolicy', 'Local: only endpoints of the client\'s node'] as const] : []),
          ...(model.externalTrafficPolicy === 'Local' ? [['externalTrafficPolicy', 'Local: from outside only endpoints of the node that is asked; the client\'s address stays'] as const] : []),
          ...(model.affinitySeconds === undefined ? [] : [['session affinity', `by client address, ${model.affinitySeconds} s`] as const]),
          ...(model.healthCheckNodePort === undefined ? [] : [['health check', `port ${model.healthCheckNodePort} of every node`] as const]),
          ...(model.loadBalancerSourceRanges ? [['allowed from', model.loadBalancerSourceRanges.join(', ')] as const] : []),
        ],
        addresses: model.ports.flatMap((p) => families.flatMap((f) => agent.frontendsOf(model, p, f, node).map((a) => ({ kind: a.kind, address: a.address, port: a.port, protocol: p.protocol, name: p.name })))),
        endpoints: model.ports.flatMap((p) => families.flatMap((f) => {
          const used = usableEndpoints(p.endpoints[f]);
          return p.endpoints[f].map((e) => ({
            port: `${p.port}/${p.protocol}`, endpoint: f === 'IPv6' ? `[${e.address}]:${e.port}` : `${e.address}:${e.port}`, node: e.node, pod: e.pod,
            ready: e.ready, serving: e.serving, terminating: e.terminating, used: used.includes(e),
          }));
        })),
        node: nodeState.name, rules: explainRules(listed, wanted), drift,
      };
    } finally {
      lab.client.close();
    }
  },
});
