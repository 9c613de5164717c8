import type { Command } from 'commander';
import { show } from '../policy/found.js';
import { NAME, NAME_FORM } from '../policy/name.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { mintToken } from './minted.js';
import { formatMoment, readMoment, readSpan } from './moment.js';
import { type PlaceOptions, WHEN_IN_FORCE, noToken, takesPlace, tokensFileOf } from './token-place.js';
import { type NewEntry, type Tokens, type TokensText, changeTokens, describeToken } from './tokens-file.js';
import type { Voice } from './voice.js';

interface RotateOptions extends PlaceOptions {
  readonly grace: string;
  readonly notAfter?: string;
}

export function registerRotate(token: Command, voice: Voice): void {
  takesPlace(token.command('rotate'))
    .description(
      'Makes a second token of the same name, with the same roles and permissions, prints it once (alone on stdout), and lets the old one end after a while: the time to hand the new one out.',
    )
    .argument('<name>', 'whose it is')
    .option('--grace <time>', 'how long the old one goes on: 30m, 24h, 7d, or 0', '24h')
    .option('--not-after <when>', 'end of the new one: a date (2027-01-01), or how long from now (90d)')
    .addHelpText('after', '\nExample:\n  guardbee token rotate old --grace 24h --file tokens.yaml > new.token\n')
    .action(ending(async (name: string, options: RotateOptions) => await rotate(name, options, voice)));
}

async function rotate(name: string, options: RotateOptions, voice: Voice): Promise<number> {
  if (!NAME.test(name)) throw new Ending(EXIT.usage, `found ${show(name)}: allowed is ${NAME_FORM}`);
  const nowMs = Date.now();
  const graceMs = readSpan('--grace', options.grace);
  const notAfter = options.notAfter === undefined ? null : readMoment('--not-after', options.notAfter, nowMs);
  if (notAfter !== null && notAfter.ms <= nowMs) throw new Ending(EXIT.usage, '--not-after is in the past');
  const file = await tokensFileOf(name, options, voice);
  const minted = mintToken();
  const said = await changeTokens(file, voice, (tokens) =>
    exchange(tokens, { name, sha256: minted.sha256, notAfter: notAfter?.text ?? null }, { file, nowMs, graceMs }),
  );
  voice.out(minted.token);
  voice.err('This is the only time that the new token is shown.');
  for (const line of said) voice.err(line);
  voice.err(`${WHEN_IN_FORCE}.`);
  return EXIT.ok;
}

interface Circumstances {
  readonly file: string;
  readonly nowMs: number;
  readonly graceMs: number;
}

/** The old one's end, and the new one beside it. Returns what to tell. */
function exchange(
  tokens: TokensText,
  made: Pick<NewEntry, 'name' | 'sha256' | 'notAfter'>,
  { file, nowMs, graceMs }: Circumstances,
): string[] {
  const { name } = made;
  const isOver = (token: Tokens[number]): boolean => (token.not_after ?? Infinity) <= nowMs;
  const own = tokens.tokens.filter((token) => token.name === name);
  const live = own.filter((token) => !isOver(token));
  const old = live[0] ?? own.at(-1);
  if (old === undefined) throw new Ending(EXIT.policy, noToken(name, file));
  if (live.length > 1) {
    const [first, second] = live.map(describeToken);
    throw new Ending(
      EXIT.policy,
      `${file} has two tokens of this name that are still good: ${first ?? ''}, ${endOf(live[0])}, and ${second ?? ''}, ${endOf(live[1])}. End one of them first: guardbee token revoke ${name} --fingerprint ${live[0]?.sha256?.slice(0, 6) ?? '…'}`,
    );
  }
  const said: string[] = [];
  const end = Math.min(nowMs + graceMs, old.not_after ?? Infinity);
  const when = formatMoment(end);
  if (isOver(old)) {
    said.push(`The old one, ${describeToken(old)}, had ended already, ${endOf(old)}.`);
  } else if (end === old.not_after) {
    said.push(`The old one, ${describeToken(old)}, ends when it would have, ${endOf(old)}.`);
  } else {
    if ((old.not_before ?? -Infinity) >= Date.parse(when)) {
      throw new Ending(
        EXIT.policy,
        `${describeToken(old)} would end before it begins (${formatMoment(old.not_before ?? 0)}): there is nothing to rotate yet`,
      );
    }
    tokens.end(tokens.tokens.indexOf(old), when);
    said.push(`The old one, ${describeToken(old)}, ends at ${when}.`);
  }
  // A name has two entries at most: what ended before makes room.
  const spent = own.filter((token) => token !== old);
  for (const token of spent) {
    tokens.remove(tokens.tokens.findIndex((other) => other.name === token.name && other.sha256 === token.sha256));
    said.push(`The one before it, ${describeToken(token)}, had ended and was taken out.`);
  }
  tokens.add({
    ...made,
    roles: old.roles ?? [],
    permissions: old.permissions ?? [],
    notBefore: null,
  });
  const lasts = made.notAfter === null ? 'has no end' : `ends at ${made.notAfter}`;
  said.push(`The new one, ${show(name)} (${made.sha256.slice(0, 6)}), was added to ${file}; it ${lasts}.`);
  return said;
}

function endOf(token: Tokens[number] | undefined): string {
  return token?.not_after === undefined ? 'without an end' : `at ${formatMoment(token.not_after)}`;
}
