/**
 * Puts the compiled program into few files, since what a start costs most is finding and opening 240 of them
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
import { BUNDLE } from './setup.mjs';

/** Marks a name in the bundle; nothing that node or npm would look for begins so. */
const MARK = '#';

const BEYOND_ASCII = /[^\0-\x7f]/g;

/** Before the modules of the first file. `modules` is a table of functions by name, `elsewhere` one of files. */
const loaderHead = (elsewhere) => `'use strict';
const { pathToFileURL } = require('node:url');
const HERE = pathToFileURL(__filename);
const loaded = new Map();
function load(name) {
  if (name[0] !== '${MARK}') return require(name);
  let exports = loaded.get(name);
  if (exports === undefined) {
    exports = {};
    if (!(name in modules)) Object.assign(modules, require(elsewhere[name])(__later, __meta));
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
const elsewhere = { __proto__: null,
${elsewhere}};
const modules = { __proto__: null,
`;
const loaderTail = (entry) => `};
module.exports = load(${JSON.stringify(entry)});
`;

/** Around the modules of any other file. */
const PART_HEAD = `'use strict';
let __later, __meta;
module.exports = (later, meta) => {
  __later = later;
  __meta = meta;
  return modules;
};
const modules = {
`;
const PART_TAIL = `};
`;

/**
 * @param {string} folder Of compiled modules. The files are meant to lie in it: `import.meta.url` in a module is what it
 * would be without them.
 * @param {string} entry Path in the folder; what it exports, the first file exports.
 * @param {string[]} started Paths of modules that `entry` imports when they are wanted: what a process that stays needs.
 * @param {{ first: string, staying: string[], rest: string }} names Of the first file, with what `entry` imports at once; of those
 * with all that `started` may ever ask for, since the files may be others by then; and of the one with the rest.
 * @returns {Map<string, string>} Text by name: CommonJS
 */
export function bundle(folder, entry, started, names) {
  const modules = modulesFrom(folder, entry);
  const stray = started.find((path) => !modules.has(path));
  if (stray !== undefined) throw new Error(`${stray} is to be put with what it needs, and nothing imports it`);
  const atOnce = reached(modules, [entry], ['needed']);
  const called = reached(modules, [entry, ...started], ['needed']);
  const staying = reached(modules, started, ['needed', 'later']);

  const parts = { first: [], staying: [], rest: [] };
  for (const path of [...modules.keys()].sort()) {
    const name = JSON.stringify(MARK + path);
    const text = `function (exports, require) {\n${modules.get(path).text}}`;
    const part = atOnce.has(path) ? parts.first : staying.has(path) ? parts.staying : parts.rest;
    // V8 only finds the end of a function that may never be called, and reads it again when it is. One in parentheses it compiles.
    part.push({ name, text: `${name}: ${called.has(path) ? `(${text})` : text},\n` });
  }
  const others = [...inPieces(parts.staying, names.staying), [names.rest, parts.rest]];
  const elsewhere = others.flatMap(([file, part]) =>
    part.map(({ name }) => `${name}: ${JSON.stringify(`./${file}`)},\n`),
  );
  const table = (part) => part.map(({ text }) => text).join('');
  return new Map([
    [names.first, inAscii(loaderHead(elsewhere.join('')) + table(parts.first) + loaderTail(MARK + entry))],
    ...others.map(([file, part]) => [file, inAscii(PART_HEAD + table(part) + PART_TAIL)]),
  ]);
}

/** As many pieces of about the same length as there are names for. */
function inPieces(part, names) {
  const length = part.reduce((sum, { text }) => sum + text.length, 0);
  const pieces = names.map((name) => [name, []]);
  let before = 0;
  for (const one of part) {
    pieces[Math.floor((before / length) * names.length)][1].push(one);
    before += one.text.length;
  }
  return pieces;
}

/** All modules that can be reached, by path, each as a function's body and with the paths it asks for. */
function modulesFrom(folder, entry) {
  const modules = new Map();
  const pending = [entry];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    if (modules.has(path)) continue;
    const module = asFunction(path, readFileSync(join(folder, path), 'utf8'));
    modules.set(path, module);
    for (const next of [...module.needed, ...module.later]) {
      if (!existsSync(join(folder, next))) throw new Error(`${path} imports ${next}, which is not there`);
      pending.push(next);
    }
  }
  return modules;
}

/** The paths that lead on from these by such imports, and these. */
function reached(modules, from, kinds) {
  const found = new Set();
  const pending = [...from];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    if (found.has(path)) continue;
    found.add(path);
    for (const kind of kinds) pending.push(...modules.get(path)[kind]);
  }
  return found;
}

/**
 * One character beyond Latin-1 would have V8 keep and scan all of it as UTF-16. In strings, templates, patterns and
 * names the escape means the same; comments are gone.
 */
function inAscii(text) {
  return text.replace(BEYOND_ASCII, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A module as the body of a function, and which others it asks for: to be loaded at all, or when it calls for them. */
function asFunction(path, source) {
  const needed = [];
  const later = [];
  /** Where a relative import leads; null for a package or a module of node's. */
  const named = (specifier, paths) => {
    if (!specifier.startsWith('.')) return null;
    const to = posix.join(posix.dirname(path), specifier);
    paths.push(to);
    return MARK + to;
  };
  const rewrite = (context) => (file) => {
    const { factory } = context;
    const call = (name, text) =>
      factory.createCallExpression(factory.createIdentifier(name), undefined, [factory.createStringLiteral(text)]);
    const visit = (node) => {
      if (ts.isImportDeclaration(node) || (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined)) {
        const name = named(node.moduleSpecifier.text, needed);
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
        const name = named(specifier.text, later);
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
  return { text: outputText.replace(/^"use strict";\n/, ''), needed, later };
}

/** Writes all files of a new bundle into a folder, or none. */
export function writeBundle(folder, entry, into, started, names) {
  const texts = [...bundle(folder, entry, started, names)].map(([name, text]) => ({ file: join(into, name), text }));
  // A syntax that does not survive being put into a function is found now, not at the next start.
  for (const { file, text } of texts) new Script(text, { filename: file });
  const temporary = (file) => `${file}.${String(process.pid)}.tmp`;
  try {
    for (const { file, text } of texts) writeFileSync(temporary(file), text);
    // The first file leads to the others.
    for (const { file } of texts.toReversed()) renameSync(temporary(file), file);
  } finally {
    for (const { file } of texts) rmSync(temporary(file), { force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const src = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist', 'src');
  writeBundle(src, 'cli/process.js', src, ['cli/run.js', 'cli/unexpected.js'], BUNDLE);
}
