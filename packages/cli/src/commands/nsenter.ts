/** nsenter for pods and nodes by name. */
import { defineCommand, flag, required, variadic } from '../command.js';
import { runInTerminal } from '../child.js';
import { usageError } from '../errors.js';
import { labOption, namespaceOption, podRecord } from '../lab.js';

const LETTERS = ['n', 'm', 'p', 'u', 'i', 'C', 'U', 'T'] as const;

export const command = defineCommand({
  name: 'nsenter',
  summary: 'Run a command of this machine in chosen namespaces of a pod or node',
  details: 'The letters are those of nsenter(1). Without any: the network namespace alone, with the files of this machine,\nso its tools work in a pod that has none. TARGET is a pod, or node/NAME.',
  arguments: { target: required('a pod, or node/NAME', 'pods'), command: variadic('the command, behind --') },
  options: {
    ...labOption, ...namespaceOption,
    net: flag('network'), mount: flag('mount: its files', { short: '-m' }), pid: flag('processes', { short: '-p' }), uts: flag('host name', { short: '-u' }),
    ipc: flag('System V IPC', { short: '-i' }), cgroup: flag('cgroup', { short: '-C' }), user: flag('user', { short: '-U' }), time: flag('time', { short: '-T' }),
    all: flag('all of them', { short: '-a' }),
  },
  examples: [
    ['podway nsenter web-a -- ss -lntp', 'sockets of a pod, with the tools of this machine'],
    ['podway nsenter web-a -m -- ls /', 'the files of the pod'],
    ['podway nsenter node/m1 -a -- bash', 'a shell on a node'],
  ],
  needsRoot: true,
  passThrough: true,
  ownSignals: true,
  view: { text: () => '' },
  async run({ args, options, setExitCode }) {
    const words = args.command[0] === '--' ? args.command.slice(1) : args.command;
    if (words.length === 0) throw usageError('no command was given', `podway nsenter ${args.target} -- ip addr`);
    const { binary, execInNamespaces, mustRun } = await import('@podway/lab/client');
    const names = { n: 'net', m: 'mount', p: 'pid', u: 'uts', i: 'ipc', C: 'cgroup', U: 'user', T: 'time' } as const;
    const asked = LETTERS.filter((l) => options[names[l]]);
    const letters = options.all ? (['a'] as const) : asked.length ? asked : (['n'] as const);
    const env = { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', ...(process.env['TERM'] ? { TERM: process.env['TERM'] } : {}) };
    setExitCode(await runInTerminal(execInNamespaces(binary('podway-init'), await pidOf(), letters, words, env)));

    async function pidOf(): Promise<number> {
      const node = /^node\/(.+)$/.exec(args.target)?.[1];
      if (node === undefined) {
        const record = await podRecord(options.lab, options.namespace, args.target);
        // Mount, pid and cgroup are the container's own; the others are the sandbox's.
        return letters.some((l) => 'mpCa'.includes(l)) ? (record.containers[0]?.pid ?? record.sandbox.pid) : record.sandbox.pid;
      }
      const state = mustRun(options.lab);
      const found = state.nodes.find((n) => n.name === node);
      if (!found) throw usageError(`lab ${options.lab} has no node ${node}`, `Nodes: ${state.nodes.map((n) => n.name).join(', ')}`);
      return found.holderPid;
    }
  },
});
