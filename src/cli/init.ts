import { existsSync } from 'node:fs';
import { readFile, readdir, stat } from 'node:fs/promises';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { didYouMean } from '../policy/did-you-mean.js';
import { parseDocument } from '../policy/document.js';
import { show } from '../policy/found.js';
import { policySchema } from '../policy/schema.js';
import { validate } from '../policy/validate.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { createPrivate, replacePrivate, shellWord } from './private-file.js';
import type { Voice } from './voice.js';

/** The package's presets; this file is dist/src/cli/init.js. */
const PRESETS = fileURLToPath(new URL('../../../policies/', import.meta.url));
const SCHEMA = path.join(PRESETS, 'policy.schema.json');

interface InitOptions {
  readonly for?: string;
  readonly output?: string;
  readonly list?: true;
  readonly force?: true;
}

export function registerInit(program: Command, voice: Voice): void {
  program
    .command('init')
    .description('Writes a commented policy for a known service, to be adapted. Its first lines say what it opens.')
    .option('--for <name>', 'which service')
    .option('--output <file>', 'where to write it (NAME.yaml); - writes to stdout')
    .option('--list', 'list the services')
    .option('--force', 'write over a file that is there')
    .addHelpText('after', '\nExample:\n  guardbee init --for rbee-queen --output policy.yaml\n')
    .action(
      ending(async (options: InitOptions) => {
        const presets = await readPresets();
        if (options.list === true) {
          const width = Math.max(...presets.map(({ name }) => name.length));
          for (const { name, title } of presets) voice.out(`${name.padEnd(width)}  ${title}`);
          return EXIT.ok;
        }
        await init(presetNamed(presets, options.for), options, voice);
        return EXIT.ok;
      }),
    );
}

interface Preset {
  readonly name: string;
  readonly title: string;
  readonly text: string;
}

async function readPresets(): Promise<Preset[]> {
  const files = (await readdir(PRESETS)).filter((file) => file.endsWith('.yaml')).sort();
  return await Promise.all(
    files.map(async (file) => {
      const text = await readFile(path.join(PRESETS, file), 'utf8');
      const title = text
        .split('\n')
        .map((line) => line.replace(/^#\s*/, ''))
        .find((line) => line !== '' && !line.startsWith('yaml-language-server:'));
      return { name: file.replace(/\.yaml$/, ''), title: title ?? '', text };
    }),
  );
}

function presetNamed(presets: readonly Preset[], name: string | undefined): Preset {
  const names = presets.map((preset) => preset.name);
  const known = `there are ${names.join(', ')}`;
  if (name === undefined) throw new Ending(EXIT.usage, `for which service? Say --for NAME; ${known}`);
  const found = presets.find((preset) => preset.name === name);
  if (found !== undefined) return found;
  // `queen` is none of rbee-queen's misspellings, and still means it.
  const partly = names.filter((one) => one.split('-').includes(name));
  const meant = didYouMean(name, names) ?? (partly.length === 1 ? partly[0] : undefined);
  throw new Ending(
    EXIT.usage,
    `there is no preset ${show(name)}${meant === undefined ? '' : `, did you mean ${meant}?`}; ${known}`,
  );
}

async function init(preset: Preset, options: InitOptions, voice: Voice): Promise<void> {
  const text = withSchema(preset.text);
  const output = options.output ?? `${preset.name}.yaml`;
  if (output === '-') {
    voice.out(text);
    return;
  }
  await write(output, text, options.force === true);
  voice.out(`wrote ${output}`);
  voice.out('Next:');
  for (const [index, step] of nextSteps(preset, output).entries()) voice.out(`  ${index + 1}. ${step}`);
}

/** Editors look the schema up from where the policy lies, which is no longer the package's folder. */
function withSchema(text: string): string {
  const line = /^# yaml-language-server: \$schema=.*\n(?:#\n)?/;
  return existsSync(SCHEMA)
    ? text.replace(line, `# yaml-language-server: $schema=${SCHEMA}\n#\n`)
    : text.replace(line, '');
}

async function write(output: string, text: string, force: boolean): Promise<void> {
  const there = await stat(output).catch(() => null);
  if (there === null) {
    await createPrivate(output, text);
  } else if (there.isDirectory()) {
    throw new Ending(EXIT.usage, `${output} is a folder: name a file in it`);
  } else if (!force) {
    throw new Ending(EXIT.usage, `${output} is there already, and nothing was written: say --force to write over it`);
  } else {
    await replacePrivate(output, text, null);
  }
}

function nextSteps(preset: Preset, output: string): string[] {
  const policy = validate(parseDocument(preset.text, preset.name), policySchema).value;
  const file = shellWord(output);
  const steps = [`read its first lines, and put your own addresses in`];
  for (const authenticator of Object.values(policy?.authenticators ?? {})) {
    if (authenticator.type === 'basic') {
      const users = shellWord(path.join(path.dirname(output), authenticator.htpasswd_file));
      steps.push(`htpasswd -B -C 12 -c ${users} NAME && chmod 600 ${users}`);
      continue;
    }
    if (authenticator.type !== 'bearer' || authenticator.tokens_file === undefined) continue;
    const tokens = path.join(path.dirname(output), authenticator.tokens_file);
    const roles = Object.keys(policy?.roles ?? {});
    const others = roles.length > 1 ? `     (roles: ${roles.join(', ')})` : '';
    steps.push(`guardbee token new --name me --role ${roles[0] ?? 'ROLE'} --file ${shellWord(tokens)}${others}`);
  }
  return [...steps, `guardbee check ${file}`, `guardbee run --policy ${file}`];
}
