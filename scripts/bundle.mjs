/**
 * Puts the compiled program into one file, since what a start costs most is finding and opening 240 of them
 * (docs/decisions/0023). Part of every build; see setup.mjs.
 *
 * Only modules of our own go in: packages stay where npm put them, for whoever audits what is installed. The compiler
 * turns each module into a function, and a loader of a few lines calls it when it is first asked for, as node would.
 *
 *     node scripts/bundle.mjs
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import ts from 'typescript';

/** Marks a name in the bundle; nothing that node or npm would look for begins so. */
const MARK = '#';

const BEYOND_ASCII = /[^\0-\x7f]/g;

/** Before and after the modules. `modules` is a table of functions by name. */
const LOADER_HEAD = `'use strict';
const { pathToFileURL } = require('node:url');
const HERE = pathToFileURL(__filename);
const loaded = new Map();
function load(name) {
  if (name[0] !== '${MARK}') return require(name);
  let exports = loaded.get(name);
  if (exports === undefined) {
    exports = {};
    modules[name](exports, load);
    loaded.set(name, exports);
  }
  return exports;
}
/**
 * zod brings what it says in 50 languages, a tenth of a start, and what is said here we say ourselves. Where another version has them
 * elsewhere, they are loaded as ever.
 */
function withoutLanguages() {
  try {
    const Module = require('node:module');
    const path = require.resolve('zod/v4/locales');
    const none = new Module(path);
    none.filename = path;
    none.loaded = true;
    require.cache[path] ??= none;
  } catch {
    return;
  }
}
withoutLanguages();
const __later = async (name) => load(name);
const __meta = (path) => ({ url: new URL(path, HERE).href });
const modules = { __proto__: null,
`;
const loaderTail = (entry) => `};
module.exports = load(${JSON.stringify(entry)});
`;

/**
 * @param {string} folder Of compiled modules. The bundle is meant to lie in it: `import.meta.url` in a module is what
 * it would be without a bundle.
 * @param {string} entry Path in the folder; what it exports, the bundle exports.
 * @returns {string} CommonJS
 */
export function bundle(folder, entry) {
  const modules = new Map();
  const pending = [entry];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    if (modules.has(path)) continue;
    const { text, asked } = asFunction(path, readFileSync(join(folder, path), 'utf8'));
    modules.set(path, text);
    for (const next of asked) {
      if (!existsSync(join(folder, next))) throw new Error(`${path} imports ${next}, which is not there`);
      pending.push(next);
    }
  }
  const parts = [...modules].sort(([a], [b]) => (a < b ? -1 : 1));
  const table = parts.map(
    ([path, text]) => `${JSON.stringify(MARK + path)}: function (exports, require) {\n${text}},\n`,
  );
  return inAscii(LOADER_HEAD + table.join('') + loaderTail(MARK + entry));
}

/**
 * One character beyond Latin-1 would have V8 keep and scan all of it as UTF-16. In strings, templates, patterns and
 * names the escape means the same; comments are gone.
 */
function inAscii(text) {
  return text.replace(BEYOND_ASCII, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A module as the body of a function, and which others it asks for. */
function asFunction(path, source) {
  const asked = [];
  /** Where a relative import leads; null for a package or a module of node's. */
  const named = (specifier) => {
    if (!specifier.startsWith('.')) return null;
    const to = posix.join(posix.dirname(path), specifier);
    asked.push(to);
    return MARK + to;
  };
  const rewrite = (context) => (file) => {
    const { factory } = context;
    const call = (name, text) =>
      factory.createCallExpression(factory.createIdentifier(name), undefined, [factory.createStringLiteral(text)]);
    const visit = (node) => {
      if (ts.isImportDeclaration(node) || (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined)) {
        const name = named(node.moduleSpecifier.text);
        if (name === null) return node;
        const specifier = factory.createStringLiteral(name);
        return ts.isImportDeclaration(node)
          ? factory.updateImportDeclaration(node, node.modifiers, node.importClause, specifier, node.attributes)
          : factory.updateExportDeclaration(
              node,
              node.modifiers,
              node.isTypeOnly,
              node.exportClause,
              specifier,
              node.attributes,
            );
      }
      if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
        const [specifier] = node.arguments;
        if (specifier === undefined || !ts.isStringLiteralLike(specifier)) {
          throw new Error(`${path}: an import whose name is made at run time cannot be put into one file`);
        }
        // Those of packages stay as they are: some are ES modules, which `require` does not load everywhere.
        const name = named(specifier.text);
        return name === null ? node : call('__later', name);
      }
      // Its function sees how a character was written.
      if (ts.isTaggedTemplateExpression(node) && node.template.getText(file).search(BEYOND_ASCII) !== -1) {
        throw new Error(`${path}: a tagged template with a character beyond ASCII cannot be written as ASCII`);
      }
      if (ts.isMetaProperty(node)) return call('__meta', path);
      return ts.visitEachChild(node, visit, context);
    };
    return ts.visitNode(file, visit);
  };
  const { outputText } = ts.transpileModule(source, {
    // As CommonJS in which `import()` is left alone.
    fileName: `${path.slice(0, -'.js'.length)}.cts`,
    compilerOptions: {
      module: ts.ModuleKind.Node16,
      target: ts.ScriptTarget.ES2023,
      esModuleInterop: true,
      removeComments: true,
    },
    transformers: { before: [rewrite] },
  });
  // Strictness is said once, for the whole file.
  return { text: outputText.replace(/^"use strict";\n/, ''), asked };
}

/** Writes the whole new bundle or none. */
export function writeBundle(folder, entry, file) {
  const text = bundle(folder, entry);
  // A syntax that does not survive being put into a function is found now, not at the next start.
  new Script(text, { filename: file });
  const temporary = `${file}.${String(process.pid)}.tmp`;
  try {
    writeFileSync(temporary, text);
    renameSync(temporary, file);
  } finally {
    rmSync(temporary, { force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const src = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist', 'src');
  writeBundle(src, 'cli/process.js', join(src, 'guardbee.cjs'));
}
