/**
 * Programs are started with argument vectors, never through a shell, where a name with a space or
 * a semicolon becomes a command. And what `kernel` can do is not done by starting ip, nft and the like.
 */
import { KERNEL_TOOLS, placeOf } from '../layers.mjs';

const MODULES = new Set(['child_process', 'node:child_process']);
const SHELLS = new Set(['sh', 'bash', 'dash', 'zsh']);
const STARTERS = new Set(['spawn', 'spawnSync', 'execFile', 'execFileSync']);

export default {
  meta: {
    type: 'problem',
    docs: { description: 'argument vectors only; kernel access only through kernel' },
    schema: [],
    messages: {
      exec: '{{name}} runs its text in a shell: use execFile or spawn with an argument vector',
      shell: 'shell: true makes arguments into a command line: leave it out',
      sh: 'a shell with -c is a command line again: start the program itself with an argument vector',
      tool: 'do not start {{tool}}: the kernel package does this in-process',
    },
  },
  create(context) {
    const place = placeOf(context.filename);
    const source = place?.part === 'src';
    /** Local names of what was imported from child_process. */
    const names = new Map();
    const namespaces = new Set();
    const nameOf = (callee) =>
      callee.type === 'Identifier' ? names.get(callee.name)
        : callee.type === 'MemberExpression' && callee.object.type === 'Identifier' && namespaces.has(callee.object.name) && callee.property.type === 'Identifier'
          ? callee.property.name
          : undefined;
    return {
      ImportDeclaration(node) {
        if (!MODULES.has(node.source.value)) return;
        for (const s of node.specifiers) {
          if (s.type === 'ImportSpecifier') names.set(s.local.name, s.imported.name);
          else namespaces.add(s.local.name);
          if (s.type === 'ImportSpecifier' && ['exec', 'execSync'].includes(s.imported.name)) {
            context.report({ node: s, messageId: 'exec', data: { name: s.imported.name } });
          }
        }
      },
      CallExpression(node) {
        const name = nameOf(node.callee);
        if (name === undefined) return;
        if (node.callee.type === 'MemberExpression' && ['exec', 'execSync'].includes(name)) context.report({ node, messageId: 'exec', data: { name } });
        if (!STARTERS.has(name)) return;
        for (const a of node.arguments) {
          if (a.type !== 'ObjectExpression') continue;
          for (const p of a.properties) {
            if (p.type === 'Property' && p.key.type === 'Identifier' && p.key.name === 'shell' && !(p.value.type === 'Literal' && p.value.value === false)) {
              context.report({ node: p, messageId: 'shell' });
            }
          }
        }
        const [program, args] = node.arguments;
        if (!source || program?.type !== 'Literal' || typeof program.value !== 'string') return;
        const tool = program.value.split('/').at(-1);
        if (KERNEL_TOOLS.includes(tool)) context.report({ node: program, messageId: 'tool', data: { tool } });
        if (SHELLS.has(tool) && args?.type === 'ArrayExpression' && args.elements[0]?.type === 'Literal' && args.elements[0].value === '-c') {
          context.report({ node: program, messageId: 'sh' });
        }
      },
    };
  },
};
