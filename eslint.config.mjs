import eslint from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';
import { HOUSE, IO_BUILTINS } from './scripts/check-imports.mjs';

/** `// eslint-disable… -- why`: a suppression without a reason is an error, and so is one that covers a whole file. */
const explainedSuppressions = {
  meta: { type: 'problem', schema: [] },
  create(context) {
    return {
      Program() {
        for (const comment of context.sourceCode.getAllComments()) {
          const directive = /^\s*eslint-(disable(?:-next-line|-line)?)\b(.*)$/s.exec(comment.value);
          if (directive === null || !comment.loc) continue;
          const [, kind, rest = ''] = directive;
          const [rules = '', why = ''] = rest.split(/\s-{2,}\s/);
          const complaint =
            kind === 'disable'
              ? 'Suppress one line, with eslint-disable-next-line, not a whole file.'
              : rules.trim() === ''
                ? 'Name the rule that is suppressed.'
                : why.trim() === ''
                  ? 'Say why after the rule: `// eslint-disable-next-line RULE -- WHY`.'
                  : null;
          if (complaint !== null) context.report({ loc: comment.loc, message: complaint });
        }
      },
    };
  },
};

// One table for both checkers: the folders that only decide, and the files in them through which input comes.
const PURE = HOUSE.pure.map((name) => (name.endsWith('.ts') ? `src/${name}` : `src/${name}/**`));
const DOORS = Object.keys(HOUSE.doors).map((file) => `src/${file}`);

const IO_MODULES = IO_BUILTINS.map((name) => ({
  name,
  allowTypeImports: true,
  ...(HOUSE.harmless[name] === undefined ? {} : { allowImportNames: HOUSE.harmless[name] }),
  message: `This folder decides and does no I/O. Read in ${[...DOORS, 'server/', 'proxy/'].join(', ')}; pass the result in.`,
}));

const CLOCK = 'This folder reads no clock: take `nowMs` as a parameter.';
const LOG = 'Only observe/log writes. Return a record or an issue; in cli/, print through cli/voice.';

export default defineConfig(
  { ignores: ['dist/**', 'node_modules/**', 'coverage/**'] },
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    plugins: { house: { rules: { 'explained-suppressions': explainedSuppressions } } },
    rules: { 'house/explained-suppressions': 'error' },
  },
  eslint.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    // One program for all files, as for a build; a service such as editors have takes a quarter longer.
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      // `== null` asks for null and undefined at once; nothing else is compared loosely.
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-eval': 'error',
      'no-implied-eval': 'off', // The typed one below it is on.
      'no-new-func': 'error',
      'no-param-reassign': 'error',
      'no-console': 'off', // Said by no-restricted-globals, with what to use instead.
      'object-shorthand': 'error',
      'prefer-const': 'error',
      '@typescript-eslint/ban-ts-comment': [
        'error',
        { 'ts-expect-error': 'allow-with-description', 'ts-ignore': true, 'ts-nocheck': true },
      ],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        // A switch either lists every case, and then has no `default` that would swallow the next one, or says with a
        // `default` that it singles out a few.
        {
          allowDefaultCaseForExhaustiveSwitch: false,
          considerDefaultExhaustiveForUnions: true,
          requireDefaultForNonUnion: true,
        },
      ],
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          // The runner waits for its tests by itself; so says its documentation.
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite'] },
          ],
        },
      ],
      '@typescript-eslint/no-unused-vars': [
        'error',
        // The compiler looks for these too; an underscore says "part of a signature".
        { args: 'all', argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrors: 'all' },
      ],
      // A number reads the same in every text; wrapping each in String() hides the text.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // `void` as a generic argument is how a promise of nothing is written.
      '@typescript-eslint/no-invalid-void-type': ['error', { allowInGenericTypeArguments: true }],
      // `() => stream.destroy()` as a listener is read as what it does, not as what it returns.
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // The check for an `async` without `await` asks for more words: such a function turns a throw into a rejection.
      '@typescript-eslint/require-await': 'off',
      // tsconfig's noPropertyAccessFromIndexSignature asks for brackets where the rule would have dots.
      '@typescript-eslint/dot-notation': 'off',
      // Both spellings are used for what they say: an interface is extended or implemented, a type is computed.
      '@typescript-eslint/consistent-type-definitions': 'off',
    },
  },
  {
    // Their return types are what zod infers, and the policy's types are made of them.
    files: ['src/policy/schema-scalars.ts'],
    rules: { '@typescript-eslint/explicit-module-boundary-types': 'off' },
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'no-restricted-globals': ['error', { name: 'console', message: LOG }],
      'no-restricted-syntax': [
        'error',
        {
          selector: 'TSEnumDeclaration',
          message: 'Use a union of strings, or a frozen table with `satisfies`.',
        },
      ],
    },
  },
  {
    files: PURE,
    ignores: DOORS,
    rules: {
      'no-restricted-globals': [
        'error',
        { name: 'console', message: LOG },
        { name: 'process', message: 'This folder knows no process: take what is needed as a parameter.' },
        { name: 'fetch', message: 'This folder does no I/O: identity/jwks.ts is the one that fetches.' },
        { name: 'performance', message: CLOCK },
        { name: 'setTimeout', message: CLOCK },
        { name: 'setInterval', message: CLOCK },
        { name: 'setImmediate', message: 'Stay synchronous here: the caller decides when.' },
      ],
      'no-restricted-properties': ['error', { object: 'Date', property: 'now', message: CLOCK }],
      'no-restricted-syntax': [
        'error',
        { selector: 'TSEnumDeclaration', message: 'Use a union of strings, or a frozen table with `satisfies`.' },
        { selector: 'NewExpression[callee.name="Date"][arguments.length=0]', message: CLOCK },
        {
          selector: 'MemberExpression[object.name="Math"][property.name="random"]',
          message: 'Use node:crypto for anything an attacker must not guess; take it as a parameter elsewhere.',
        },
      ],
      '@typescript-eslint/no-restricted-imports': ['error', { paths: IO_MODULES }],
    },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: 'CallExpression[callee.property.name=/^(only|todo)$/][callee.object.name=/^(test|it|describe)$/]',
          message: 'Left over from work in progress: it hides the other tests.',
        },
      ],
      // A test says what must be there; `!` in it fails as loudly as an assertion would.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // Test strings are spread into bytes and ASCII letters; nobody's emoji is at stake.
      '@typescript-eslint/no-misused-spread': ['error', { allow: ['string'] }],
    },
  },
  {
    files: ['scripts/**/*.mjs', 'eslint.config.mjs'],
    languageOptions: {
      globals: { process: 'readonly', performance: 'readonly', setInterval: 'readonly', clearInterval: 'readonly' },
    },
  },
);
