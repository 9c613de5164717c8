import * as path from 'node:path';
import type { Command } from 'commander';
import { parseDocument } from '../policy/document.js';
import { show } from '../policy/found.js';
import { renderIssues } from '../policy/render-issues.js';
import { policySchema } from '../policy/schema.js';
import { validate } from '../policy/validate.js';
import { EXIT, Ending } from './exit-code.js';
import { type PolicyOptions, fileSource, namedPolicy } from './policy-source.js';
import { readTokens } from './tokens-file.js';
import type { Voice } from './voice.js';

/** What is true of every change, since a running guardbee reads its tokens once. */
export const WHEN_IN_FORCE = 'guardbee reload has a running guardbee take this over';

export interface PlaceOptions extends PolicyOptions {
  readonly file?: string;
}

/** The two ways to say which tokens are meant. */
export function takesPlace(command: Command): Command {
  return command
    .option('--file <file>', 'the tokens file')
    .option('-p, --policy <file>', 'the policy that names it (also: GUARDBEE_POLICY)')
    .option('-c, --config <file>', 'the same');
}

/** The tokens file that holds the name: the one that was said, or that of the policy. */
export async function tokensFileOf(name: string, options: PlaceOptions, voice: Voice): Promise<string> {
  const policy = options.file === undefined || isNamed(options) ? namedPolicy(undefined, options) : null;
  if (options.file !== undefined) {
    if (policy !== null) throw new Ending(EXIT.usage, 'which one? Say --file or --policy, not both');
    return options.file;
  }
  if (policy === null) {
    throw new Ending(
      EXIT.usage,
      'where does the token stand? Say --file FILE or --policy FILE, or set GUARDBEE_POLICY',
    );
  }
  return await fileIn(policy, name, voice);
}

function isNamed({ policy, config }: PolicyOptions): boolean {
  return policy !== undefined || config !== undefined;
}

async function fileIn(policy: string, name: string, voice: Voice): Promise<string> {
  const text = await fileSource(policy).text();
  if (text === null) throw new Ending(EXIT.policy, `${policy} cannot be read`);
  const { value, issues } = validate(parseDocument(text, policy), policySchema);
  if (value === null || issues.length > 0) {
    voice.err(renderIssues(issues));
    throw new Ending(EXIT.policy, `${policy} is broken, and nothing was changed`);
  }
  const authenticators = Object.values(value.authenticators ?? {}).filter((one) => one.type === 'bearer');
  const named = authenticators.flatMap((one) => (one.tokens_file === undefined ? [] : [one.tokens_file]));
  const files = [...new Set(named.map((file) => path.join(path.isAbsolute(file) ? '' : path.dirname(policy), file)))];
  const holding: string[] = [];
  for (const file of files) {
    if ((await readTokens(file, voice)).some((token) => token.name === name)) holding.push(file);
  }
  const [first, ...others] = holding;
  if (first !== undefined && others.length === 0) return first;
  if (first !== undefined) {
    throw new Ending(EXIT.policy, `${show(name)} stands in ${holding.join(' and ')}: say which with --file`);
  }
  const inside = authenticators.some((one) => one.tokens?.some((token) => token.name === name) === true);
  throw new Ending(
    EXIT.policy,
    inside
      ? `${show(name)} stands in ${policy} itself, which is edited by hand: move it to a tokens_file, or change it there`
      : noToken(name, files.length === 0 ? policy : files.join(' and ')),
  );
}

export function noToken(name: string, where: string): string {
  return `there is no token of the name ${show(name)} in ${where} ("guardbee token list" shows those there are)`;
}
