/**
 * Nothing is awaited, and nothing is put off, while inside a network namespace: `Netns.run` enters
 * for one synchronous stretch. What runs later runs in the process's own namespace.
 * With type information the receiver's type decides; without it, any `.run(` is looked at.
 */
const LATER = new Set(['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask']);
const FUNCTIONS = new Set(['ArrowFunctionExpression', 'FunctionExpression']);

/** True, false, or undefined when types are not at hand. */
function isNetns(context, node) {
  const services = context.sourceCode.parserServices;
  if (!services?.program) return undefined;
  const type = services.getTypeAtLocation(node);
  const parts = type.isUnion() ? type.types : [type];
  return parts.some((t) => t.symbol?.name === 'Netns');
}

/** The function returns something that can be awaited. */
function returnsPromise(context, node) {
  if (node.async) return true;
  const services = context.sourceCode.parserServices;
  if (!services?.program) return false;
  const checker = services.program.getTypeChecker();
  return services.getTypeAtLocation(node).getCallSignatures().some((s) => {
    const type = checker.getReturnTypeOfSignature(s);
    return (type.isUnion() ? type.types : [type]).some((t) => t.getProperty('then') !== undefined);
  });
}

export default {
  meta: {
    type: 'problem',
    docs: { description: 'nothing is awaited or deferred inside Netns.run' },
    schema: [],
    messages: {
      async: 'nothing may be awaited inside a network namespace: the work given to run() must be synchronous',
      later: '{{name}} inside run() acts later, and then outside of the network namespace',
    },
  },
  create(context) {
    /** The functions given to Netns.run that we are within. */
    const inside = [];
    return {
      CallExpression(node) {
        const { callee } = node;
        if (inside.length) {
          const name = callee.type === 'Identifier' ? callee.name
            : callee.type === 'MemberExpression' && callee.property.type === 'Identifier'
              ? (callee.object.type === 'Identifier' && callee.object.name === 'process' ? `process.${callee.property.name}` : callee.property.name)
              : '';
          const isMember = callee.type === 'MemberExpression';
          if ((!isMember && LATER.has(name)) || name === 'process.nextTick' || (isMember && ['then', 'finally'].includes(name))) {
            context.report({ node, messageId: 'later', data: { name } });
          }
        }
        if (callee.type !== 'MemberExpression' || callee.property.type !== 'Identifier' || callee.property.name !== 'run' || node.arguments.length !== 1) return;
        if (isNetns(context, callee.object) === false) return;
        const [work] = node.arguments;
        if (work.type === 'SpreadElement') return;
        if (returnsPromise(context, work)) context.report({ node: work, messageId: 'async' });
        if (FUNCTIONS.has(work.type)) inside.push(work);
      },
      ':matches(ArrowFunctionExpression, FunctionExpression):exit'(node) {
        if (inside.at(-1) === node) inside.pop();
      },
    };
  },
};
