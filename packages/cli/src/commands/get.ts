/** Objects of the lab's API, as kubectl prints them: the server makes the table. */
import type { KubeObject, Node, ObjectKind, Pod } from '@podway/kube';
import { defineCommand, flag, optional, required, text } from '../command.js';
import { kindOf } from '../kinds.js';
import { labOption, named, namespaceOption, openLab, type OpenLab } from '../lab.js';

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io';

interface ServerTable {
  readonly columnDefinitions: readonly { readonly name: string; readonly priority?: number }[];
  readonly rows: readonly { readonly cells: readonly (string | number | null)[]; readonly object?: KubeObject }[];
}

interface Answer {
  readonly kind: ObjectKind<KubeObject>;
  readonly table: ServerTable;
  readonly objects: readonly KubeObject[];
  readonly single: boolean;
  readonly allNamespaces: boolean;
}

async function read(lab: OpenLab, path: string, accept: string, query: Record<string, string | undefined>): Promise<unknown> {
  let body = '';
  for await (const chunk of (await lab.client.open(path, { accept, query })).setEncoding('utf8') as AsyncIterable<string>) body += chunk;
  return JSON.parse(body) as unknown;
}

/** The server's column has the first address, as kubectl shows it; here all of them are. */
function allAddresses(column: string, object: KubeObject | undefined): string | undefined {
  const { podIPs, addresses } = (object as Pod & Node | undefined)?.status ?? {};
  const all = column === 'IP' ? podIPs?.map((p) => p.ip ?? '') : column === 'Internal-IP' ? addresses?.filter((a) => a.type === 'InternalIP').map((a) => a.address) : undefined;
  return all !== undefined && all.length > 1 ? all.join(',') : undefined;
}

export const command = defineCommand({
  name: 'get',
  summary: 'List pods, nodes, services, endpointslices, namespaces or events of a lab',
  arguments: { kind: required('pods, nodes, services, endpointslices, endpoints, namespaces or events'), name: optional('one of them', 'pods') },
  options: {
    ...labOption, ...namespaceOption,
    allNamespaces: flag('of all namespaces', { short: '-A' }),
    selector: text('LABELS', 'only those with these labels (app=web)', { short: '-l' }),
  },
  examples: [
    ['podway get pods -o wide', 'with addresses and nodes'],
    ['podway get nodes', 'the nodes'],
    ['podway get services', 'addresses and ports of Services'],
    ['podway get pod web-a -o yaml', 'one pod in full'],
  ],
  needsRoot: true,
  view: {
    table(a: Answer, wide) {
      const shown = a.table.columnDefinitions.map((c, i) => ({ ...c, i })).filter((c) => wide || !c.priority);
      const namespaced = a.allNamespaces && a.kind.namespaced;
      return {
        columns: [...(namespaced ? ['NAMESPACE'] : []), ...shown.map((c) => c.name.toUpperCase())],
        rows: a.table.rows.map((r) => [
          ...(namespaced ? [r.object?.metadata?.namespace ?? ''] : []),
          ...shown.map((c) => allAddresses(c.name, r.object) ?? String(r.cells[c.i] ?? '<none>')),
        ]),
        empty: `No ${a.kind.plural} found${a.kind.namespaced && !a.allNamespaces ? ' in this namespace' : ''}.`,
      };
    },
    names: (a) => a.objects.map((o) => `${a.kind.singular}/${o.metadata?.name ?? ''}`),
    json: (a) => (a.single ? a.objects[0] : { apiVersion: 'v1', kind: 'List', items: a.objects }),
  },
  async run({ args, options, format }) {
    const kind = await kindOf(args.kind);
    const lab = await openLab(options.lab);
    try {
      const { resourcePath } = await import('@podway/kube');
      const single = args.name !== undefined;
      const path = resourcePath(kind, { ...(options.allNamespaces ? {} : { namespace: options.namespace }), ...(single ? { name: args.name } : {}) });
      const query = { labelSelector: options.selector };
      const ask = (accept: string, more: Record<string, string> = {}): Promise<unknown> => {
        const answer = read(lab, path, accept, { ...query, ...more });
        return args.name === undefined ? answer : named(kind.singular, args.name, kind.namespaced ? options.namespace : undefined, answer);
      };
      const asked = format === undefined || format === 'table' || format === 'wide';
      if (asked) {
        const table = (await ask(TABLE, { includeObject: format === 'wide' ? 'Object' : 'Metadata' })) as ServerTable;
        return { kind, table, objects: [], single, allNamespaces: options.allNamespaces };
      }
      const found = (await ask('application/json')) as KubeObject & { items?: KubeObject[] };
      const objects = single ? [found] : (found.items ?? []);
      return { kind, table: { columnDefinitions: [], rows: [] }, objects, single, allNamespaces: options.allNamespaces };
    } finally {
      lab.client.close();
    }
  },
});
