/** The house rules as an ESLint plugin. One file per rule, each with valid and invalid cases in test/. */
import layers from './rules/layers.mjs';
import noAwaitInNetns from './rules/no-await-in-netns.mjs';
import noPrint from './rules/no-print.mjs';
import noShell from './rules/no-shell.mjs';

export default {
  meta: { name: 'podway-house' },
  rules: { layers, 'no-await-in-netns': noAwaitInNetns, 'no-print': noPrint, 'no-shell': noShell },
};
