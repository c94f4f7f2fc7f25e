/** Core code returns data or emits typed events; only `cli` prints. */
import { PRINTING, placeOf } from '../layers.mjs';

export default {
  meta: {
    type: 'problem',
    docs: { description: 'only cli prints' },
    schema: [],
    messages: { print: '{{what}} prints; return data or emit an event instead (only cli prints)' },
  },
  create(context) {
    const place = placeOf(context.filename);
    const file = context.filename.replaceAll('\\', '/');
    if (!place || place.part !== 'src' || place.pkg === 'cli' || Object.keys(PRINTING).some((path) => file.endsWith(path))) return {};
    return {
      MemberExpression(node) {
        const text = context.sourceCode.getText(node);
        if (/^console\.\w+$/.test(text) || /^process\.(stdout|stderr)$/.test(text)) context.report({ node, messageId: 'print', data: { what: text } });
      },
    };
  },
};
