/**
 * The order of the house, as code: who may import whom in src/, which packages and which of Node's modules may be used
 * where. A rule that nothing needs any more is an error too, so that the table below always tells how things are.
 *
 *     node scripts/check-imports.mjs
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const HOUSE = {
  /** From the ground up. A folder or file imports from lines above its own, and a folder from itself. */
  order: [
    ['denial.ts', 'failure.ts', 'version.ts'],
    ['secret', 'net'],
    ['http'],
    ['check'],
    ['policy'],
    ['identity'],
    ['gate'],
    ['exchange-record.ts'],
    ['exchange.ts'],
    ['proxy'],
    ['state'],
    ['acme'],
    ['observe'],
    ['server'],
    ['workers'],
    ['demo'],
    ['app.ts'],
    ['cli'],
  ],

  /** These decide and do nothing else: no I/O, no clock. */
  pure: ['denial.ts', 'failure.ts', 'secret', 'net', 'http', 'check', 'policy', 'identity', 'gate'],

  /** Files in pure folders that may do I/O all the same, and with what: the doors through which input comes. */
  doors: {
    'identity/jwks.ts': ['node:http', 'node:https'],
    'net/this-machine.ts': ['node:dns'],
    'policy/load.ts': ['node:dns/promises', 'node:os'],
    'secret/files.ts': ['node:fs', 'node:fs/promises'],
  },

  /** Names that pure folders may import from modules that are otherwise I/O. */
  harmless: { 'node:tls': ['createSecureContext'] },

  /** Package → folders and files that import it. Every dependency in package.json stands here and nowhere else. */
  packages: {
    '@redis/client': ['state'],
    bcryptjs: ['server'],
    commander: ['cli'],
    'ip-num': ['net'],
    jose: ['identity'],
    pino: ['observe'],
    'prom-client': ['observe'],
    selfsigned: ['server'],
    ws: ['demo'],
    yaml: ['policy'],
    zod: ['policy'],
  },
};

/** Node's modules that compute and touch nothing outside. All others count as I/O. */
const COMPUTING = new Set(
  ['assert', 'assert/strict', 'buffer', 'crypto', 'events', 'path', 'punycode', 'querystring', 'stream']
    .concat(['stream/promises', 'string_decoder', 'url', 'util', 'util/types', 'zlib'])
    .map((name) => `node:${name}`),
);

export const IO_BUILTINS = builtinModules
  .filter((name) => !name.startsWith('_'))
  .map((name) => (name.startsWith('node:') ? name : `node:${name}`))
  .filter((name) => !COMPUTING.has(name));

/**
 * @typedef {object} Import
 * @property {string} specifier
 * @property {boolean} typeOnly Erased by the compiler.
 * @property {readonly string[] | null} names Null: the whole module.
 * @property {number} line
 */

/** Everything a file imports, in whatever way. @returns {Import[]} */
export function importsOf(text, file) {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found = [];
  const add = (node, specifier, typeOnly, names) => {
    const line = source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1;
    found.push({ specifier: specifier.text, typeOnly, names, line });
  };
  const visit = (node) => {
    if (ts.isImportDeclaration(node)) {
      const { importClause: clause } = node;
      const bindings = clause?.namedBindings;
      const named = bindings !== undefined && ts.isNamedImports(bindings) ? bindings.elements : null;
      const whole = clause === undefined || clause.name !== undefined || named === null;
      const kept = named?.filter((element) => !element.isTypeOnly) ?? [];
      const typeOnly = clause?.isTypeOnly === true || (!whole && named.length > 0 && kept.length === 0);
      add(node, node.moduleSpecifier, typeOnly, whole ? null : kept.map((e) => (e.propertyName ?? e.name).text));
    } else if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
      add(node, node.moduleSpecifier, node.isTypeOnly, null);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node, node.argument.literal, true, null);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [argument] = node.arguments;
      if (argument !== undefined && ts.isStringLiteralLike(argument)) add(node, argument, false, null);
      else add(node, { text: '(computed)' }, false, null);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/**
 * @param {string} src Absolute path of the source folder.
 * @param {typeof HOUSE} house
 * @param {readonly string[]} dependencies Names in package.json.
 * @returns {string[]} What is wrong, one line each.
 */
export function checkImports(src, house, dependencies) {
  const problems = [];
  const level = new Map(house.order.flatMap((names, index) => names.map((name) => [name, index])));
  const used = new Set();
  const files = walk(src).map((file) => relative(src, file));
  const edges = new Map();

  for (const file of files) {
    const own = ownerOf(file);
    if (!level.has(own)) {
      problems.push(`src/${file}: ${own} has no place in the order; give it one in scripts/check-imports.mjs`);
      continue;
    }
    const values = new Set();
    edges.set(file, values);
    for (const found of importsOf(readFileSync(join(src, file), 'utf8'), file)) {
      const where = `src/${file}:${found.line}`;
      if (found.specifier.startsWith('.')) {
        const target = relative(src, resolve(src, dirname(file), found.specifier.replace(/\.js$/, '.ts')));
        if (target.startsWith('..')) problems.push(`${where}: imports ${found.specifier}, which is outside of src/`);
        else if (!files.includes(target)) problems.push(`${where}: imports ${found.specifier}, which is not there`);
        else {
          if (!found.typeOnly) values.add(target);
          checkOrder(where, own, ownerOf(target));
        }
      } else if (IO_BUILTINS.includes(found.specifier) || COMPUTING.has(found.specifier)) {
        checkBuiltin(where, file, own, found);
      } else if (found.specifier === '(computed)') {
        problems.push(`${where}: imports a name made at run time, which nothing can check`);
      } else {
        checkPackage(where, file, own, found);
      }
    }
  }

  function checkOrder(where, own, target) {
    if (own === target) return;
    if (!level.has(target) || level.get(target) < level.get(own)) return;
    problems.push(`${where}: ${own} imports ${target}, which does not stand above it in the order`);
  }

  function checkBuiltin(where, file, own, found) {
    if (found.typeOnly || !house.pure.includes(own) || COMPUTING.has(found.specifier)) return;
    if (house.doors[file]?.includes(found.specifier)) {
      used.add(`door ${file} ${found.specifier}`);
      return;
    }
    const harmless = house.harmless[found.specifier] ?? [];
    if (found.names !== null && found.names.every((name) => harmless.includes(name))) {
      for (const name of found.names) used.add(`harmless ${found.specifier} ${name}`);
      return;
    }
    const doors = Object.keys(house.doors);
    const hint = doors.length > 0 ? `; the doors are ${doors.join(', ')}` : '';
    problems.push(`${where}: imports ${found.specifier}, but ${own} does no I/O${hint}`);
  }

  function checkPackage(where, file, own, found) {
    const name = found.specifier
      .split('/')
      .slice(0, found.specifier.startsWith('@') ? 2 : 1)
      .join('/');
    const allowed = house.packages[name];
    if (builtinModules.includes(name)) {
      problems.push(`${where}: imports ${name}; Node's own modules are written node:${name}`);
    } else if (allowed === undefined) {
      problems.push(`${where}: imports ${name}, which is not in the table of packages`);
    } else {
      const place = allowed.find((one) => one === own || one === file);
      if (place !== undefined) used.add(`package ${name} ${place}`);
      else problems.push(`${where}: imports ${name}, which only ${allowed.join(', ')} may`);
    }
  }

  // What the table says and nothing bears out.
  const stale = (what) => problems.push(`scripts/check-imports.mjs: stale rule: ${what}`);
  const owners = new Set(files.map(ownerOf));
  for (const name of level.keys()) if (!owners.has(name)) stale(`there is no src/${name}`);
  for (const name of house.pure) if (!level.has(name)) stale(`${name} is called pure but has no place in the order`);
  for (const [file, modules] of Object.entries(house.doors)) {
    for (const module of modules) {
      if (!used.has(`door ${file} ${module}`)) stale(`src/${file} does not import ${module}`);
    }
  }
  for (const [module, names] of Object.entries(house.harmless)) {
    for (const name of names) {
      if (!used.has(`harmless ${module} ${name}`)) stale(`no pure folder imports ${name} from ${module}`);
    }
  }
  for (const [name, places] of Object.entries(house.packages)) {
    if (!dependencies.includes(name)) stale(`package.json does not depend on ${name}`);
    for (const place of places) {
      if (!used.has(`package ${name} ${place}`)) stale(`src/${place} does not import ${name}`);
    }
  }
  for (const name of dependencies) {
    if (house.packages[name] === undefined) problems.push(`package.json: nothing in the table uses ${name}`);
  }

  for (const cycle of cycles(edges)) problems.push(`import cycle: ${cycle.map((file) => `src/${file}`).join(' → ')}`);
  return problems;
}

/** `policy` for policy/load.ts, `denial.ts` for denial.ts. */
const ownerOf = (file) => file.split('/', 1)[0];

function walk(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? walk(path) : [path];
    })
    .filter((path) => path.endsWith('.ts'))
    .sort();
}

/** Cycles among files by what is left of their imports at run time; types may refer to each other. */
function cycles(edges) {
  const found = [];
  const done = new Set();
  const path = [];
  const visit = (file) => {
    const at = path.indexOf(file);
    if (at !== -1) {
      found.push([...path.slice(at), file]);
      return;
    }
    if (done.has(file)) return;
    path.push(file);
    for (const next of edges.get(file) ?? []) visit(next);
    path.pop();
    done.add(file);
  };
  for (const file of edges.keys()) visit(file);
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const src = join(root, 'src');
  if (!existsSync(src)) throw new Error('there is no src/');
  const problems = checkImports(src, HOUSE, Object.keys(dependencies));
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  if (problems.length > 0) {
    process.stderr.write(`${String(problems.length)} problem${problems.length === 1 ? '' : 's'} with imports\n`);
    process.exitCode = 1;
  }
}
