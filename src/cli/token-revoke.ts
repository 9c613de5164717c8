import type { Command } from 'commander';
import { show } from '../policy/found.js';
import { NAME, NAME_FORM } from '../policy/name.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { formatMoment } from './moment.js';
import { type PlaceOptions, WHEN_IN_FORCE, noToken, takesPlace, tokensFileOf } from './token-place.js';
import { type Tokens, type TokensText, changeTokens, describeToken } from './tokens-file.js';
import type { Voice } from './voice.js';

interface RevokeOptions extends PlaceOptions {
  readonly fingerprint?: string;
  readonly now?: true;
}

export function registerRevoke(token: Command, voice: Voice): void {
  takesPlace(token.command('revoke'))
    .description(
      'Takes the tokens of a name out of a tokens file, or one of them. The last token of a file is ended in place of that, since a file holds one at least.',
    )
    .argument('<name>', 'whose it is')
    .option('--fingerprint <digits>', 'only the one whose hash begins so: 6 hex digits, as in the log')
    .option('--now', 'keep the entry, with not_after at this moment: the log then says that it has ended')
    .addHelpText('after', '\nExample:\n  guardbee token revoke old --file tokens.yaml\n')
    .action(ending(async (name: string, options: RevokeOptions) => await revoke(name, options, voice)));
}

async function revoke(name: string, options: RevokeOptions, voice: Voice): Promise<number> {
  if (!NAME.test(name)) throw new Ending(EXIT.usage, `found ${show(name)}: allowed is ${NAME_FORM}`);
  const fingerprint = options.fingerprint?.toLowerCase() ?? '';
  if (options.fingerprint !== undefined && !/^[0-9a-f]{6,64}$/.test(fingerprint)) {
    throw new Ending(
      EXIT.usage,
      '--fingerprint: allowed are the first 6 hex digits of the hash, as the log shows them',
    );
  }
  const file = await tokensFileOf(name, options, voice);
  const nowMs = Date.now();
  const said = await changeTokens(file, voice, (tokens) => {
    const own = tokens.tokens.filter((token) => token.name === name);
    if (own.length === 0) throw new Ending(EXIT.policy, noToken(name, file));
    const meant = own.filter((token) => (token.sha256 ?? '').startsWith(fingerprint));
    if (meant.length === 0) {
      const there = own.map(describeToken).join(' and ');
      throw new Ending(EXIT.policy, `no token of ${show(name)} has this fingerprint; there ${isOrAre(own)} ${there}`);
    }
    return meant.map((token) =>
      options.now === true ? end(tokens, token, nowMs, file) : remove(tokens, token, nowMs, file),
    );
  });
  for (const line of said) voice.out(line);
  voice.out(`${WHEN_IN_FORCE}. Until then a running one goes on taking what it knew.`);
  return EXIT.ok;
}

function remove(tokens: TokensText, token: Tokens[number], nowMs: number, file: string): string {
  if (tokens.tokens.length === 1)
    return `${end(tokens, token, nowMs, file)} It is the last one of the file, so it stays there`;
  tokens.remove(indexOf(tokens, token));
  return `${describeToken(token)} was taken out of ${file}.`;
}

function end(tokens: TokensText, token: Tokens[number], nowMs: number, file: string): string {
  if ((token.not_after ?? Infinity) <= nowMs) {
    return `${describeToken(token)} had ended already, at ${formatMoment(token.not_after ?? 0)}.`;
  }
  const when = formatMoment(nowMs);
  if ((token.not_before ?? -Infinity) >= Date.parse(when)) {
    throw new Ending(
      EXIT.policy,
      `${describeToken(token)} begins at ${formatMoment(token.not_before ?? 0)}, so it cannot end now: take it out, or its not_before`,
    );
  }
  tokens.end(indexOf(tokens, token), when);
  return `${describeToken(token)} was ended at ${when} in ${file}.`;
}

/** Entries before it may have gone. */
function indexOf(tokens: TokensText, token: Tokens[number]): number {
  const digest = JSON.stringify([token.name, token.sha256, token.token]);
  return tokens.tokens.findIndex((one) => JSON.stringify([one.name, one.sha256, one.token]) === digest);
}

function isOrAre(list: readonly unknown[]): string {
  return list.length === 1 ? 'is' : 'are';
}
