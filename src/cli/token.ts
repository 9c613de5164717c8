import { createHash, randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { SHORTEST_TOKEN } from '../identity/static-token.js';
import { DATE_FORM, parseDate } from '../policy/date.js';
import { show } from '../policy/found.js';
import { NAME, NAME_FORM } from '../policy/name.js';
import { sha256Hex } from '../secret/digest.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { gatherNames } from './policy-source.js';
import { readHiddenLine, readStdin, terminal } from './input.js';
import { type NewEntry, addToken, entryText } from './tokens-file.js';
import type { Voice } from './voice.js';

interface NewOptions {
  readonly name?: string;
  readonly role?: readonly string[];
  readonly permission?: readonly string[];
  readonly notAfter?: string;
  readonly file?: string;
  readonly printOnly?: true;
}

export function registerToken(program: Command, voice: Voice): void {
  const token = program
    .command('token')
    .description('Makes API tokens. A policy holds their hashes, never the tokens themselves.')
    .addHelpText('after', '\nExample:\n  guardbee token new --name keeper --role operator\n');
  registerNew(token, voice);
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
    .option('--not-after <when>', 'a date (2027-01-01), or how long from now (90d)')
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
  const notAfter = options.notAfter === undefined ? null : readNotAfter(options.notAfter, Date.now());

  // 256 bits, behind a prefix that secret scanners and our own log know.
  const token = `gbee_${randomBytes(32).toString('base64url')}`;
  const entry: NewEntry = { name: options.name, sha256: sha256Hex(token), roles, permissions, notAfter };
  const file = options.printOnly === true ? null : (options.file ?? null);
  if (file !== null) await addToken(file, entry, voice);
  voice.out(token);
  if (file === null) {
    voice.err(
      'This is the only time that the token is shown. For `tokens:` of an authenticator, or of its tokens_file:',
    );
    voice.err(`  - ${entryText(entry)}`);
  } else {
    voice.err(
      `This is the only time that the token is shown. Its hash was added to ${file}; reload guardbee to use it.`,
    );
  }
  return EXIT.ok;
}

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** RFC 3339, in whole seconds. */
function readNotAfter(text: string, nowMs: number): string {
  const span = /^(\d{1,5})([mhd])$/.exec(text);
  const date = span === null ? parseDate(text) : null;
  if (date?.ok === false) {
    throw new Ending(EXIT.usage, `--not-after: allowed is ${DATE_FORM}, or how long from now (90d, 12h, 30m)`);
  }
  const ms = date === null ? nowMs + Number(span?.[1]) * (UNITS[span?.[2] ?? ''] ?? Number.NaN) : date.value;
  if (ms <= nowMs) throw new Ending(EXIT.usage, '--not-after is in the past');
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
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
