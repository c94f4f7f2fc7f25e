/** The page's build: into build/page of the repository, from where `podway ui` serves it. No file is named by the content of another machine. */
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

export default {
  root: at('.'),
  base: '/',
  // Own JSX transform of the bundler: no plug-in.
  oxc: { jsx: { runtime: 'automatic' } },
  build: { outDir: at('../../../build/page'), emptyOutDir: true, target: 'es2022', sourcemap: false, modulePreload: { polyfill: false }, assetsInlineLimit: 0, reportCompressedSize: false },
  logLevel: 'warn',
};
