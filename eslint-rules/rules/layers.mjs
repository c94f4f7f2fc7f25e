/** Imports go down only, by package name, and owned modules are imported by their owner alone. */
import { dirname, resolve } from 'node:path';
import { LAYERS, OWNED_MODULES, placeOf } from '../layers.mjs';

export default {
  meta: {
    type: 'problem',
    docs: { description: 'packages import only what is below them' },
    schema: [],
    messages: {
      upwards: '{{from}} must not import {{to}}: an arrow goes down only (see eslint-rules/layers.mjs)',
      unknown: 'package {{from}} is not in eslint-rules/layers.mjs: say there what it may import',
      around: 'import {{to}} by its name (@podway/{{to}}), not by a path into its folder',
      owned: 'only {{owner}} may import {{module}}; what you need belongs there',
    },
  },
  create(context) {
    const place = placeOf(context.filename);
    if (!place) return {};
    const check = (node, source) => {
      if (typeof source !== 'string') return;
      const own = /^@podway\/([^/]+)/.exec(source)?.[1];
      if (own) {
        if (place.part !== 'src') return;
        const allowed = LAYERS[place.pkg];
        if (!allowed) context.report({ node, messageId: 'unknown', data: { from: place.pkg } });
        else if (own !== place.pkg && !allowed.includes(own)) context.report({ node, messageId: 'upwards', data: { from: place.pkg, to: own } });
        return;
      }
      if (source.startsWith('.')) {
        const target = placeOf(`${resolve(dirname(context.filename), source)}/`);
        if (target && target.pkg !== place.pkg) context.report({ node, messageId: 'around', data: { to: target.pkg } });
        return;
      }
      for (const [module, owners] of Object.entries(OWNED_MODULES)) {
        if ((source === module || source.startsWith(`${module}/`)) && place.part === 'src' && !owners.includes(place.pkg)) {
          context.report({ node, messageId: 'owned', data: { module, owner: owners.join(', ') } });
        }
      }
    };
    return {
      ImportDeclaration: (n) => check(n, n.source.value),
      ExportNamedDeclaration: (n) => n.source && check(n, n.source.value),
      ExportAllDeclaration: (n) => check(n, n.source.value),
      ImportExpression: (n) => n.source.type === 'Literal' && check(n, n.source.value),
      TSImportType: (n) => check(n, n.source?.value ?? n.argument?.literal?.value),
      CallExpression(n) {
        // createRequire(import.meta.url)('koffi'), require('koffi')
        const { callee } = n;
        const requires = (callee.type === 'Identifier' && callee.name === 'require')
          || (callee.type === 'CallExpression' && callee.callee.type === 'Identifier' && callee.callee.name === 'createRequire');
        if (requires && n.arguments[0]?.type === 'Literal') check(n, n.arguments[0].value);
      },
    };
  },
};
