import type { Command } from 'commander';
import { EXIT, Ending } from './exit-code.js';

export interface PolicyOptions {
  readonly policy?: string;
  readonly config?: string;
}

/** The three ways to name a policy on the command line. */
export function takesPolicy(command: Command): Command {
  return command
    .argument('[policy]', 'policy file; - reads it from stdin')
    .option('-p, --policy <file>', 'the same (also: GUARDBEE_POLICY)')
    .option('-c, --config <file>', 'the same');
}

/** For options that may be given again, or with a comma between names. */
export function gatherNames(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), ...value.split(',')];
}

/** The policy that was named, or null. */
export function namedPolicy(positional: string | undefined, options: PolicyOptions): string | null {
  const named = [positional, options.policy, options.config].filter((one) => one !== undefined);
  const [first, ...others] = named;
  if (others.some((other) => other !== first)) {
    throw new Ending(EXIT.usage, `one policy at a time: found ${named.join(' and ')}`);
  }
  if (first === '') throw new Ending(EXIT.usage, 'the name of the policy file is empty');
  const fromEnvironment = process.env['GUARDBEE_POLICY'] ?? '';
  return first ?? (fromEnvironment === '' ? null : fromEnvironment);
}
