/** `podway __complete -- WORDS`: what the shells' completion asks. */
import { defineCommand, variadic } from '../command.js';
import { candidateLines, complete, type Candidate } from '../completion.js';
import { lookupNames } from '../completion-sources.js';

export const command = defineCommand({
  name: '__complete',
  summary: 'Answer what may stand where the last word is',
  hidden: true,
  passThrough: true,
  arguments: { words: variadic('the words behind podway, the last one being typed') },
  options: {},
  examples: [['podway __complete -- inspect netns ""', 'the names of network namespaces']],
  view: { text: (candidates: readonly Candidate[]) => candidateLines(candidates) },
  async run({ args }) {
    const { catalogue } = await import('../catalogue.js');
    return complete(catalogue, args.words, lookupNames);
  },
});
