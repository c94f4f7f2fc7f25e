/**
 * The house as data: which package may import which (an arrow goes down only), and who may do
 * what. The rules in rules/ read this table; docs tell the reasons.
 */

/** Package → the packages of the house it may import, in its sources. Tests may import any below `cli`. */
export const LAYERS = {
  errors: [],
  packet: [],
  kernel: ['errors'],
  netstate: ['errors', 'kernel'],
  cni: ['errors'],
  kube: ['errors'],
  trace: ['errors', 'kernel', 'packet', 'netstate', 'kube'],
  doctor: ['errors', 'kernel', 'packet', 'netstate', 'kube', 'trace'],
  agent: ['errors', 'kernel', 'packet', 'netstate', 'cni', 'kube'],
  lab: ['errors', 'kernel', 'packet', 'netstate', 'cni', 'kube', 'trace', 'doctor', 'agent'],
  web: ['errors', 'packet', 'netstate', 'kube', 'trace', 'doctor', 'agent', 'lab'],
  cli: ['errors', 'kernel', 'packet', 'netstate', 'cni', 'kube', 'trace', 'doctor', 'agent', 'lab', 'web'],
};

/** Modules that only one package may import: its reason to be. */
export const OWNED_MODULES = { koffi: ['kernel'], '@kubernetes/client-node': ['kube'], commander: ['cli'] };

/** Programs whose work `kernel` does: starting one of them hides what is done and costs a process. */
export const KERNEL_TOOLS = [
  'ip', 'bridge', 'tc', 'ss', 'nft', 'sysctl', 'iptables', 'ip6tables', 'iptables-save', 'ipset', 'conntrack', 'ethtool', 'nsenter', 'unshare', 'brctl', 'route', 'ifconfig', 'tcpdump',
];

/** Sources outside of `cli` that may print, each with its reason. */
export const PRINTING = {
  'packages/kernel/src/netns.ts': 'the one message before the process is aborted, when it cannot leave a foreign namespace',
};

/** The package a file of the repository belongs to, and its part (`src`, `test`, …). */
export function placeOf(filename) {
  const m = /(?:^|\/)packages\/([^/]+)\/([^/]+)\//.exec(filename.replaceAll('\\', '/'));
  return m ? { pkg: m[1], part: m[2] } : undefined;
}
