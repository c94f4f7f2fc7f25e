import { defineCommand, flag, required, variadic } from '../command.js';
import { runInTerminal } from '../child.js';
import { usageError } from '../errors.js';
import { labOption, noNode } from '../lab.js';

export const command = defineCommand({
  name: 'node exec',
  summary: 'Run a command on a node, as docker exec does on a node of kind',
  details: 'In all namespaces of the node: its network, its files (/etc/cni/net.d, /var/lib/podway), its processes.',
  arguments: { node: required('name of the node', 'nodes'), command: variadic('the command, behind --') },
  options: {
    ...labOption,
    stdin: flag('accepted: stdin is always connected', { short: '-i' }),
    tty: flag('accepted: a terminal is passed on as it is', { short: '-t' }),
  },
  examples: [
    ['podway node exec m1 -- ip route', 'routes of the node'],
    ['podway node exec m1 -- bridge fdb show dev flannel.1', 'its FDB'],
    ['podway node exec m1 -- bash', 'a shell'],
  ],
  needsRoot: true,
  ownSignals: true,
  view: { text: () => '' },
  async run({ args, options, setExitCode }) {
    const words = args.command[0] === '--' ? args.command.slice(1) : args.command;
    if (words.length === 0) throw usageError('no command was given', `podway node exec ${args.node} -- bash`);
    const { binary, execInNode, mustRun } = await import('@podway/lab/client');
    const state = mustRun(options.lab);
    const node = state.nodes.find((n) => n.name === args.node);
    if (!node) throw noNode(options.lab, args.node, state);
    const env = { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', ...(process.env['TERM'] ? { TERM: process.env['TERM'] } : {}) };
    setExitCode(await runInTerminal(execInNode(binary('podway-init'), node.holderPid, words, env)));
  },
});
