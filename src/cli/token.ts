import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import { SHORTEST_TOKEN } from '../identity/static-token.js';
import { show } from '../policy/found.js';
import { NAME, NAME_FORM } from '../policy/name.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { gatherNames } from './policy-source.js';
import { readHiddenLine, readStdin, terminal } from './input.js';
import { mintToken } from './minted.js';
import { readMoment } from './moment.js';
import { registerList } from './token-list.js';
import { WHEN_IN_FORCE } from './token-place.js';
import { registerRevoke } from './token-revoke.js';
import { registerRotate } from './token-rotate.js';
import { type NewEntry, addToken, entryText } from './tokens-file.js';
import type { Voice } from './voice.js';

interface NewOptions {
  readonly name?: string;
  readonly role?: readonly string[];
  readonly permission?: readonly string[];
  readonly notBefore?: string;
  readonly notAfter?: string;
  readonly file?: string;
  readonly printOnly?: true;
}

export function registerToken(program: Command, voice: Voice): void {
  const token = program
    .command('token')
    .description(
      'Makes API tokens, lists, exchanges and revokes them. A policy holds their hashes, never the tokens themselves.',
    )
    .addHelpText('after', '\nExample:\n  guardbee token new --name keeper --role operator\n');
  registerNew(token, voice);
  registerRotate(token, voice);
  registerList(token, voice);
  registerRevoke(token, voice);
  registerHash(token, voice);
}

function registerNew(token: Command, voice: Voice): void {
  token
    .command('new')
    .description(
      'Makes a token of 256 random bits, prints it once (alone on stdout), and adds its hash to a tokens file. A name may have two tokens: that is how one is exchanged for another without a gap.',
    )
    .option('--name <name>', 'whose it is; logs print it')
    .option('--role <role...>', 'roles of its holder', gatherNames)
    .option('--permission <name...>', 'permissions of its holder, besides those of the roles', gatherNames)
    .option('--not-before <when>', 'from when on it is good: a date (2027-01-01), or how long from now (1h)')
    .option('--not-after <when>', 'until when: a date (2027-01-01), or how long from now (90d)')
    .option('--file <file>', 'tokens file to add it to; made, with mode 0600, where there is none')
    .option('--print-only', 'print the entry, and leave the file as it is')
    .addHelpText(
      'after',
      '\nExample:\n  guardbee token new --name prometheus --role prometheus --not-after 90d --file tokens.yaml > prometheus.token\n',
    )
    .action(ending(async (options: NewOptions) => await newToken(options, voice)));
}

async function newToken(options: NewOptions, voice: Voice): Promise<number> {
  const { role: roles = [], permission: permissions = [] } = options;
  if (options.name === undefined) throw new Ending(EXIT.usage, 'whose token? Say --name NAME');
  for (const [flag, names] of [
    ['--name', [options.name]],
    ['--role', roles],
    ['--permission', permissions],
  ] as const) {
    for (const name of names) {
      if (!NAME.test(name)) throw new Ending(EXIT.usage, `${flag} ${show(name)}: allowed is ${NAME_FORM}`);
    }
  }
  if (roles.length + permissions.length === 0) {
    throw new Ending(
      EXIT.usage,
      'a token without roles and permissions opens nothing: say --role ROLE or --permission NAME',
    );
  }
  const nowMs = Date.now();
  const notBefore = options.notBefore === undefined ? null : readMoment('--not-before', options.notBefore, nowMs);
  const notAfter = options.notAfter === undefined ? null : readMoment('--not-after', options.notAfter, nowMs);
  if (notAfter !== null && notAfter.ms <= nowMs) throw new Ending(EXIT.usage, '--not-after is in the past');
  if (notAfter !== null && notBefore !== null && notAfter.text <= notBefore.text) {
    throw new Ending(EXIT.usage, '--not-after comes before --not-before');
  }

  const { token, sha256 } = mintToken();
  const entry: NewEntry = {
    name: options.name,
    sha256,
    roles,
    permissions,
    notBefore: notBefore?.text ?? null,
    notAfter: notAfter?.text ?? null,
  };
  const file = options.printOnly === true ? null : (options.file ?? null);
  if (file !== null) await addToken(file, entry, voice);
  voice.out(token);
  if (file === null) {
    voice.err(
      'This is the only time that the token is shown. For `tokens:` of an authenticator, or of its tokens_file:',
    );
    voice.err(`  - ${entryText(entry)}`);
  } else {
    voice.err(`This is the only time that the token is shown. Its hash was added to ${file}. ${WHEN_IN_FORCE}.`);
  }
  return EXIT.ok;
}

function registerHash(token: Command, voice: Voice): void {
  token
    .command('hash')
    .description(
      'Reads a token from stdin (typed unseen on a terminal) and prints its SHA-256, for `sha256:` of a token that was made elsewhere.',
    )
    // Taken only to be refused with a reason.
    .argument('[input]', '- for stdin, which is what it reads anyway')
    .allowExcessArguments()
    // A token may begin with a dash.
    .allowUnknownOption()
    .addHelpText('after', '\nExample:\n  guardbee token hash < prometheus.token\n')
    .action(
      ending(async (input: string | undefined, _options: unknown, command: Command) => {
        if ((input !== undefined && input !== '-') || command.args.length > 1) {
          throw new Ending(
            EXIT.usage,
            'a token on the command line can be read by everybody on this machine (ps) and stays in the history of the shell: give it on stdin, and exchange this one',
          );
        }
        return await hashToken(voice);
      }),
    );
}

const LONGEST_TOKEN = 8192;

async function hashToken(voice: Voice): Promise<number> {
  const tty = terminal();
  const bytes =
    tty === null
      ? await readStdin(LONGEST_TOKEN + 2)
      : await readHiddenLine(tty, 'Token (it is not shown):', voice, LONGEST_TOKEN + 2);
  if (bytes === null) return EXIT.usage;
  try {
    const end = bytes.at(-1) === 0x0a ? (bytes.at(-2) === 0x0d ? -2 : -1) : bytes.length;
    const token = bytes.subarray(0, end);
    if (token.length === 0) throw new Ending(EXIT.usage, 'there is no token on stdin');
    // What cannot stand in a header field could never be shown (identity/credential).
    if (token.length > LONGEST_TOKEN || token.some((byte) => byte < 0x21 || byte > 0x7e)) {
      throw new Ending(
        EXIT.policy,
        'this is no token: one line of printable ASCII without blanks, 8192 characters at most',
      );
    }
    if (token.length < SHORTEST_TOKEN) {
      throw new Ending(
        EXIT.policy,
        `a token has ${SHORTEST_TOKEN} characters at least, since shorter ones can be guessed: "guardbee token new" makes one`,
      );
    }
    voice.out(createHash('sha256').update(token).digest('hex'));
    return EXIT.ok;
  } finally {
    bytes.fill(0);
  }
}
