import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { TOKEN, fieldRole } from '../http/fields.js';
import { parseAddress } from '../net/address.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { explainConnection } from './explain-connection.js';
import { tellDifference } from './explain-diff.js';
import { linesOf } from './explanation.js';
import { readStdin } from './input.js';
import {
  type PolicyOptions,
  type PolicySource,
  fileSource,
  gatherNames,
  openPolicy,
  takesPolicy,
} from './policy-source.js';
import { type Question, answer, checkNames, readRules } from './question.js';
import type { Voice } from './voice.js';

interface ExplainOptions extends PolicyOptions {
  readonly listener?: string;
  readonly as?: string;
  readonly role?: readonly string[];
  readonly permission?: readonly string[];
  readonly from?: string;
  readonly host?: string;
  readonly header?: readonly string[];
  readonly body?: string;
  readonly upgrade?: true;
  readonly diff?: string;
  readonly json?: true;
}

export function registerExplain(program: Command, voice: Voice): void {
  const command = program
    .command('explain')
    .description(
      'Says what would become of a request, or of a connection to a tcp listener, which line of the policy decides, and what it would take. Nothing is sent.',
    )
    .argument('[method]', 'GET, POST, …; none for a connection to a tcp listener')
    .argument('[path]', 'path, with its query if there is one');
  takesPolicy(command)
    .option('--listener <name>', 'which listener; needed where there are several')
    .option('--as <name>', 'with the token, the certificate or the user of this name')
    .option('--role <role>', 'with a credential of this role (again for more)', gatherNames)
    .option('--permission <name>', 'with a credential of this permission (again for more)', gatherNames)
    .option('--from <address>', 'from this address (127.0.0.1)')
    .option('--host <name>', "for this Host (the listener's first)")
    .option(
      '--header <field>',
      "with this header field, as in 'X-Deadline: 1900000000000' (again for more)",
      gatherNames,
    )
    .option('--body <text>', 'with this body, as JSON; @FILE reads it from a file, @- from stdin')
    .option('--upgrade', 'as a WebSocket')
    .option('--diff <policy>', 'hold what another policy says of it against this one (exit code 1 where they differ)')
    .option('--json', 'report as JSON')
    .addHelpText(
      'after',
      '\nWithout METHOD and PATH it is about a connection to a tcp listener: --listener NAME --from ADDRESS.\nWithout --as, --role and --permission the request shows no credential, and may be known by its address. With --diff\nthe exit code is 0 where both policies say the same, and 1 where client or upstream would see another thing.\n\nExample:\n  guardbee explain POST /v1/shutdown --role viewer --from 192.168.1.5 --policy policy.yaml\n',
    )
    .action(
      ending(
        async (
          method: string | undefined,
          path: string | undefined,
          positional: string | undefined,
          options: ExplainOptions,
        ) => {
          checkUsage(path, options);
          if (method === undefined || path === undefined) return await explainTcp(method, options, voice);
          return await explain(await openPolicy(positional, options), method, path, options, voice);
        },
      ),
    );
}

function checkUsage(path: string | undefined, options: ExplainOptions): void {
  const wrong = (message: string): never => {
    throw new Ending(EXIT.usage, message);
  };
  if (path !== undefined && !path.startsWith('/')) wrong('the path begins with "/"; the host goes into --host');
  if (options.from !== undefined && parseAddress(options.from) === null) wrong('--from is one IP address');
  if (options.diff === '-' || options.diff === '') wrong('--diff is the name of a file');
  if (options.as !== undefined && (options.role !== undefined || options.permission !== undefined)) {
    wrong('--as is somebody of the policy, who has roles already: leave out --role and --permission, or --as');
  }
}

/** @param positional the policy, where it is not said by an option */
async function explainTcp(positional: string | undefined, options: ExplainOptions, voice: Voice): Promise<number> {
  const { listener } = options;
  // A policy is named like a file, and a method is not.
  if (listener === undefined || /^[A-Z]+$/.test(positional ?? '')) {
    throw new Ending(
      EXIT.usage,
      'explain what? A request is METHOD and PATH, a connection to a tcp listener is --listener NAME',
    );
  }
  for (const key of ['host', 'header', 'body', 'upgrade', 'diff'] as const) {
    if (options[key] !== undefined) {
      throw new Ending(EXIT.usage, `--${key} is about requests: say METHOD and PATH, or leave it out`);
    }
  }
  const rules = await readRules(await openPolicy(positional, options), options.as ?? null, voice);
  if (typeof rules === 'number') return rules;
  const question = {
    listener,
    from: options.from ?? null,
    as: options.as ?? null,
    roles: options.role ?? [],
    permissions: options.permission ?? [],
  };
  return await explainConnection(question, rules, options.json === true, voice);
}

async function explain(
  source: PolicySource,
  method: string,
  target: string,
  options: ExplainOptions,
  voice: Voice,
): Promise<number> {
  const rules = await readRules(source, options.as ?? null, voice);
  if (typeof rules === 'number') return rules;
  const other =
    options.diff === undefined ? null : await readRules(fileSource(options.diff), options.as ?? null, voice);
  if (typeof other === 'number') return other;
  const question: Question = {
    listener: options.listener ?? null,
    method,
    target,
    host: options.host ?? null,
    from: options.from ?? null,
    headers: (options.header ?? []).flatMap(fieldOf),
    body: options.body === undefined ? null : await bodyOf(options.body),
    upgrade: options.upgrade === true,
    as: options.as ?? null,
    roles: options.role ?? [],
    permissions: options.permission ?? [],
  };
  const nonsense = checkNames(question, other === null ? [rules] : [rules, other], voice);
  if (nonsense !== null) return nonsense;
  const first = await answer(question, rules);
  if (other !== null) {
    // A listener is itself by its name, as it is beside a policy in force.
    const second = await answer({ ...question, listener: first.explanation.listener }, other).catch(
      (error: unknown) => {
        throw error instanceof Ending ? new Ending(error.code, `${other.source.file}: ${error.message}`) : error;
      },
    );
    return tellDifference(first, second, [source.file, other.source.file], options.json === true, voice);
  }
  if (options.json === true) voice.json(first.explanation);
  else for (const line of linesOf(first.explanation)) voice.out(line);
  return EXIT.ok;
}

/** `Name: value`, as curl's -H takes it. */
function fieldOf(text: string): string[] {
  const colon = text.indexOf(':');
  const name = text.slice(0, Math.max(0, colon)).trim();
  const role = fieldRole(name.toLowerCase());
  if (!TOKEN.test(name)) throw new Ending(EXIT.usage, "--header is a field and its value, as in 'X-Deadline: 1'");
  if (role === 'hop' || role === 'credential') {
    throw new Ending(EXIT.usage, `--header ${name} is not said this way: --host and --as say host and credential`);
  }
  return [name, text.slice(colon + 1).trim()];
}

/** More than any route judges. */
const LONGEST_BODY = 16 * 1024 * 1024;

async function bodyOf(text: string): Promise<string> {
  if (!text.startsWith('@')) return text;
  const file = text.slice(1);
  let bytes: Buffer;
  try {
    bytes = file === '-' ? await readStdin(LONGEST_BODY) : await readFile(file);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    throw new Ending(EXIT.usage, `--body ${text}: the file cannot be read (${code})`);
  }
  if (bytes.length > LONGEST_BODY) throw new Ending(EXIT.usage, '--body is longer than any route takes');
  return bytes.toString('utf8');
}
