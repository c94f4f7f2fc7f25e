/** Are the host ports of an attachment in force? In words, what is wrong. Pure. */
import { nftTables, sameTable, withoutElements, type NftObject, type NftRuleset } from '@podway/netstate';
import type { AttachmentRecord } from '../ipam/index.js';
import { elementsOf, namesOf, WHERE } from './table.js';

/** @param wanted Podway's table as it must be, @param observed what the kernel lists. */
export function hostPortProblems(record: AttachmentRecord, wanted: readonly NftObject[], observed: NftRuleset): string[] {
  const find = (objects: readonly NftObject[]) => nftTables(objects).find((t) => t.family === WHERE.family && t.name === WHERE.table);
  const [want, is] = [find(wanted), find(observed)];
  if (!want) return [];
  if (!is) return [`nftables table ${WHERE.family} ${WHERE.table} is missing`];
  const rules = { ...is, objects: withoutElements(is.objects) };
  return [
    ...(sameTable({ ...want, objects: withoutElements(want.objects) }, rules) ? [] : [`nftables table ${WHERE.family} ${WHERE.table}: its rules differ`]),
    ...elementsOf(record, ['inet', 'inet6']).flatMap(({ family, elements }) => {
      const { map, port } = namesOf(family);
      // A cluster without this family has no maps for it.
      if (!mapOf(want.objects, map)) return [];
      const [addresses, ports] = [valuesOf(is.objects, map), valuesOf(is.objects, port)];
      return elements.flatMap(({ key, address, port: to }) => {
        const words = `host port ${(key['concat'] as readonly unknown[]).join(' . ')} in map ${map}`;
        const [there, at] = [addresses.get(JSON.stringify(key)), ports.get(JSON.stringify(key))];
        if (there === undefined || at === undefined) return [`${words}: missing`];
        return there === address && at === to ? [] : [`${words}: leads to ${String(there)} port ${String(at)} instead of ${address} port ${to}`];
      });
    }),
  ];
}

const mapOf = (objects: readonly NftObject[], name: string): Readonly<Record<string, unknown>> | undefined => objects.find((o) => o['map']?.['name'] === name)?.['map'];

/** Key, as text, to value. */
function valuesOf(objects: readonly NftObject[], name: string): Map<string, unknown> {
  const elem = mapOf(objects, name)?.['elem'];
  return new Map((Array.isArray(elem) ? (elem as readonly unknown[]) : []).flatMap((e) => (Array.isArray(e) ? [[JSON.stringify(e[0]), e[1] as unknown] as const] : [])));
}
