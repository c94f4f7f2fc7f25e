/**
 * Lint: what the compiler does not see and a reviewer should not have to. The house rules
 * (eslint-rules/) for everything, typescript-eslint for TypeScript; rules that need types only
 * where they find real faults, because types cost most of the time.
 */
import tseslint from 'typescript-eslint';
import house from './eslint-rules/index.mjs';

const houseRules = { 'house/layers': 'error', 'house/no-await-in-netns': 'error', 'house/no-print': 'error', 'house/no-shell': 'error' };

export default tseslint.config(
  { ignores: ['**/dist/**', '**/node_modules/**', 'build/**'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  { files: ['**/*.{js,mjs,ts,tsx}'], plugins: { house }, rules: houseRules },
  {
    files: ['packages/*/{src,test,fuzz}/**/*.ts', 'packages/*/app/**/*.{ts,tsx}'],
    extends: [tseslint.configs.base],
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports', disallowTypeAnnotations: false }],
      '@typescript-eslint/ban-ts-comment': 'error',
      '@typescript-eslint/no-require-imports': 'error',
      'no-control-regex': 'error',
      'no-debugger': 'error',
      'no-constant-condition': ['error', { checkLoops: 'allExceptWhileTrue' }],
      'no-self-compare': 'error',
      'no-unsafe-finally': 'error',
      'no-unreachable': 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      eqeqeq: ['error', 'always'],
      'no-restricted-properties': ['error',
        ...['test', 'it', 'describe'].flatMap((object) => ['only', 'todo'].map((property) => ({ object, property, message: 'Tests that are not run or not written do not stay.' })))],
    },
  },
  // With types, and therefore slow: the sources only, and not the rules that compare whole types (no-unsafe-
  // argument, assignment and return take as long as all others together). One program for all packages, because the
  // libraries' types are then read once.
  {
    files: ['packages/*/src/**/*.ts'],
    languageOptions: { parserOptions: { project: './tsconfig.lint.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafeCalls: [{ from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite', 'before', 'after', 'beforeEach', 'afterEach'] }] }],
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { arguments: false } }],
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unsafe-call': 'error',
      '@typescript-eslint/no-unsafe-member-access': 'error',
    },
  },
);
