/** Gives a pod's namespace a name that `ip netns` knows: the link that tutorials make by hand. */
import { lstatSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { defineCommand, flag, required } from '../command.js';
import { labOption, namespaceOption, podRecord } from '../lab.js';

export const command = defineCommand({
  name: 'netns expose',
  summary: "Let `ip netns exec` reach a pod's network namespace",
  details: 'Makes a link in /run/netns to the namespace of the pod. It goes with the pod, or with --remove.',
  arguments: { pod: required('name of the pod', 'pods') },
  options: { ...labOption, ...namespaceOption, remove: flag('take the name away again') },
  examples: [
    ['podway netns expose web-a', 'then: ip netns exec podway-default-pod-default-web-a ip addr'],
    ['podway netns expose web-a --remove', 'the name goes, the pod stays'],
  ],
  needsRoot: true,
  view: {
    text: (r: { readonly name: string; readonly exposed: boolean }) =>
      r.exposed ? `${r.name}\nip netns exec ${r.name} ip addr` : `${r.name} is gone`,
    names: (r) => [r.name],
  },
  async run({ args, options }) {
    const [{ exposedName }, { NETNS_DIR }] = await Promise.all([import('@podway/lab/client'), import('@podway/kernel')]);
    const record = await podRecord(options.lab, options.namespace, args.pod);
    const name = exposedName(record);
    const path = join(NETNS_DIR, name);
    mkdirSync(NETNS_DIR, { recursive: true });
    if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) rmSync(path);
    if (!options.remove) symlinkSync(`/proc/${record.sandbox.pid}/ns/net`, path);
    return { name, exposed: !options.remove };
  },
});
