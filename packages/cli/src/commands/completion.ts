import { defineCommand, required } from '../command.js';
import { completionScript, SHELLS, type Shell } from '../completion.js';

export const command = defineCommand({
  name: 'completion',
  summary: 'Print the completion script of a shell',
  details: 'The script asks podway itself what may follow, so it need not be renewed when podway changes.',
  arguments: { shell: required('the shell', undefined, { choices: SHELLS }) },
  options: {},
  examples: [
    ['source <(podway completion bash)', 'in ~/.bashrc'],
    ['source <(podway completion zsh)', 'in ~/.zshrc'],
    ['podway completion fish | source', 'in ~/.config/fish/config.fish'],
  ],
  view: { text: (o: { readonly shell: string; readonly script: string }) => o.script },
  run: ({ args }) => ({ shell: args.shell, script: completionScript(args.shell as Shell) }),
});
