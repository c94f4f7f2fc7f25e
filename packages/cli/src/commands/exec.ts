import { defineCommand, flag, required, text, variadic } from '../command.js';
import { runInTerminal } from '../child.js';
import { usageError } from '../errors.js';
import { labOption, namespaceOption, podRecord } from '../lab.js';

export const command = defineCommand({
  name: 'exec',
  summary: 'Run a command in a container of a pod',
  details: 'The terminal is the command\'s own: shells and editors work. Its exit code is podway\'s.\nWith --tools the command is one of this machine, run in the pod\'s network namespace only:\nfor images that have no tools (`podway exec --tools web-a -- ss -lnt`).',
  arguments: { pod: required('name of the pod', 'pods'), command: variadic('the command, behind --') },
  options: {
    ...labOption, ...namespaceOption,
    container: text('NAME', 'which container, when there are several', { short: '-c' }),
    tools: flag('a command of this machine, in the network namespace of the pod'),
    stdin: flag('accepted, as kubectl has it: stdin is always connected', { short: '-i' }),
    tty: flag('accepted, as kubectl has it: a terminal is passed on as it is', { short: '-t' }),
  },
  examples: [
    ['podway exec web-a -- wget -qO- 10.244.2.2', 'one command'],
    ['podway exec -it web-a -- sh', 'a shell'],
    ['podway exec --tools web-a -- tcpdump -ni eth0 -c 5', 'a tool that the image lacks'],
  ],
  needsRoot: true,
  ownSignals: true,
  view: { text: () => '' },
  async run({ args, options, setExitCode }) {
    const words = args.command[0] === '--' ? args.command.slice(1) : args.command;
    if (words.length === 0) throw usageError('no command was given', `podway exec ${args.pod} -- sh`);
    const { binary, execInContainer, execInNamespaces } = await import('@podway/lab/client');
    const record = await podRecord(options.lab, options.namespace, args.pod);
    const init = binary('podway-init');
    const env = { ...(process.env['TERM'] ? { TERM: process.env['TERM'] } : {}) };
    setExitCode(await runInTerminal(options.tools
      ? execInNamespaces(init, record.sandbox.pid, ['n'], words, { ...env, PATH: process.env['PATH'] ?? '' })
      : execInContainer(init, record, words, { env, ...(options.container === undefined ? {} : { container: options.container }) })));
  },
});
