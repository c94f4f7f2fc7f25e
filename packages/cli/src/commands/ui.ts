/** Serves the page of a lab: the map, every node's anatomy, and the ways of packets. */
import { defineCommand, flag, integer, text } from '../command.js';
import { labOption, openLab } from '../lab.js';
import { uiSource } from '../ui-source.js';

export const command = defineCommand({
  name: 'ui',
  summary: 'Look at a lab in a browser: map, anatomy of nodes, ways of packets',
  details: 'Prints an address and serves the page until Ctrl-C. The address opens the page once; for another browser the\nnext address is printed. The page reads; the one thing it does is to send the probes of a trace, when asked.\nIt listens on this machine only. From elsewhere: ssh -L PORT:127.0.0.1:PORT MACHINE.',
  arguments: {},
  options: {
    ...labOption,
    port: integer('PORT', 'the port (default: a free one)', { min: 1, max: 65535 }),
    address: text('ADDRESS', 'listen on this address of the machine; without encryption, whoever is in the way can read along', { default: '127.0.0.1' }),
    readOnly: flag('send no probes either: paths are predicted only'),
  },
  examples: [
    ['podway ui', 'the default lab, on a free port'],
    ['podway ui --port 8080', 'always the same address, but for the token'],
    ['podway ui --lab other --read-only', 'another lab, nothing is sent'],
  ],
  needsRoot: true,
  view: { text: () => '' },
  async run({ options, signal, write, onExit, format }) {
    const say = (opened: boolean, url: string): void => write(
      format !== undefined ? `${JSON.stringify({ lab: options.lab, url })}\n`
      : opened ? `Opened. For another browser: ${url}\n`
      : `Lab ${options.lab} can be looked at here (Ctrl-C ends it):\n\n  ${url}\n\n`);
    // That it runs is known before an address is printed.
    const lab = await openLab(options.lab);
    lab.client.close();
    const { serveUi } = await import('@podway/web');
    const ui = await serveUi({
      source: uiSource(options.lab), address: options.address, readOnly: options.readOnly, onOpened: (url) => say(true, url),
      ...(options.port === undefined ? {} : { port: options.port }),
    });
    onExit(() => ui.close());
    say(false, ui.url);
    // Ends with the signal, which ends every command.
    return new Promise<undefined>((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }));
  },
});
