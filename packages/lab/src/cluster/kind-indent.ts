/**
 * kind's configuration as tutorials often show it: copied from a page that took the indentation away. kind's keys tell
 * where each line belongs, so it can be put back. Only when no line at all is indented. Pure.
 */
const TOP = new Set(['kind', 'apiVersion', 'name', 'nodes', 'networking', 'featureGates', 'runtimeConfig']);
const OF_NETWORKING = new Set([
  'ipFamily', 'apiServerPort', 'apiServerAddress', 'podSubnet', 'serviceSubnet', 'disableDefaultCNI', 'kubeProxyMode', 'dnsSearch',
]);
const LISTS_OF_NODE = new Set(['extraPortMappings', 'extraMounts']);
const OF_NODE = new Set(['role', 'image', 'labels', ...LISTS_OF_NODE]);
const OF_LIST = new Set(['containerPort', 'hostPort', 'listenAddress', 'protocol', 'hostPath', 'containerPath', 'readOnly', 'selinuxRelabel', 'propagation']);

/** @returns undefined when it has indentation, or holds what cannot be placed */
export function reindent(text: string): string | undefined {
  const lines = text.split('\n');
  if (lines.some((l) => /^\s+\S/.test(l)) || !lines.some((l) => /^kind:\s*Cluster\b/.test(l))) return undefined;
  const out: string[] = [];
  let section = '';
  for (const line of lines) {
    const m = /^(- )?([A-Za-z][A-Za-z0-9]*):/.exec(line);
    if (!m) {
      if (line.trim() !== '' && !line.startsWith('#')) return undefined;
      out.push(line);
      continue;
    }
    const [, item, key = ''] = m;
    let depth: number;
    if (!item && TOP.has(key)) [depth, section] = [0, key];
    else if (section === 'networking' && OF_NETWORKING.has(key)) depth = 2;
    else if (section === 'nodes' && OF_NODE.has(key)) depth = item ? 0 : 2;
    else if (section === 'nodes' && OF_LIST.has(key)) depth = item ? 2 : 4;
    else return undefined;
    out.push(' '.repeat(depth) + line);
  }
  return out.join('\n');
}
