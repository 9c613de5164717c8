import type { Command } from 'commander';
import { textOf } from '../observe/redact/byte-text.js';
import { LineRedactor } from '../observe/redact/line-redactor.js';
import { SecretSearch } from '../observe/redact/search.js';
import { apply } from '../observe/redact/spans.js';
import { StreamRedactor } from '../observe/redact/stream-redactor.js';
import { knownDigests } from '../policy/known-digests.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import { count } from './check.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { readStdin } from './input.js';
import { type PolicyOptions, namedPolicy } from './policy-option.js';
import { openPolicy } from './policy-source.js';
import { pump } from './redact-pipe.js';
import type { Voice } from './voice.js';

const LARGEST_TRIAL = 1024 * 1024;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

interface RedactOptions extends PolicyOptions {
  readonly test?: true;
  readonly json?: true;
}

export function registerRedact(program: Command, voice: Voice): void {
  program
    .command('redact')
    .description(
      'Takes secrets out of what it reads from stdin, line by line, and writes the rest to stdout as it was: for the output of services that log what they should not. Without a policy it finds what looks like a secret; with one, also the secrets that the policy knows.',
    )
    .argument('[text...]', 'with --test: lines to try instead of stdin')
    .option(
      '-p, --policy <file>',
      'mask the secrets of this policy too, whatever they look like (also: GUARDBEE_POLICY)',
    )
    .option('-c, --config <file>', 'the same')
    .option('--test', 'show what would be masked, and by which rule')
    .option('--json', 'with --test: report as JSON')
    .addHelpText(
      'after',
      `
In a pipe:
  queen-rbee 2>&1 | guardbee redact --policy policy.yaml | logger -t queen

It goes on until its input ends. SIGINT, SIGTERM and SIGHUP are noted on stderr, each time, and change nothing: the
program before it still has to say why it ends. When nobody reads its output, or the disk is full, it goes on reading,
so that the program before it neither waits nor is ended; it then exits with 1. SIGQUIT and SIGKILL end it.

A line is written as soon as its line end is there. One that stands unfinished for 0.1 s (a prompt) is written up to
its last white space. Of a line longer than 1 MiB, parts are written before its end; in such a line a value longer than
64 KiB is masked to the end of the line.

Example:
  guardbee redact --test 'login of bob with password=hunter2'
`,
    )
    .action(
      ending(async (texts: readonly string[], { test, json, ...named }: RedactOptions) => {
        if (test !== true && texts.length > 0) throw new Ending(EXIT.usage, 'lines to try need --test');
        if (test !== true && json === true) throw new Ending(EXIT.usage, '--json needs --test');
        const file = namedPolicy(undefined, named);
        if (file === '-') throw new Ending(EXIT.usage, 'stdin is what is redacted: name a file as the policy');
        const search = await searchFor(file, voice);
        if (search instanceof SecretSearch)
          return test === true ? await tryOn(texts, search, json === true, voice) : await filter(search, voice);
        return search;
      }),
    );
}

/** Before a byte is read. @returns the exit code where the policy cannot be used. */
async function searchFor(file: string | null, voice: Voice): Promise<SecretSearch | number> {
  if (file === null) return new SecretSearch(null);
  const source = await openPolicy(file, {});
  const loaded = await source.load();
  if (!loaded.ok) {
    voice.err(renderIssues(loaded.issues));
    return exitCodeFor(loaded.issues);
  }
  const known = knownDigests(loaded.policy);
  return new SecretSearch(known.size === 0 ? null : (digest) => known.has(digest));
}

async function filter(search: SecretSearch, voice: Voice): Promise<number> {
  const onSignal = (signal: NodeJS.Signals): void => {
    voice.err(`guardbee redact: ${signal}: going on until the input ends`);
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  try {
    const { lost, trouble, inputError } = await pump({
      input: 0,
      output: 1,
      filter: (write) => new StreamRedactor(search, write),
      broken: () => {
        voice.err('guardbee redact: nobody reads the output any more; reading on, so that whoever writes is not ended');
      },
    });
    if (inputError !== null) voice.err(`guardbee redact: the input broke off: ${inputError}`);
    if (trouble !== null) voice.err(`guardbee redact: ${count(lost, 'line')} could not be written: ${trouble}`);
    return inputError === null && trouble === null ? EXIT.ok : EXIT.policy;
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal);
  }
}

async function tryOn(texts: readonly string[], search: SecretSearch, json: boolean, voice: Voice): Promise<number> {
  const redactor = new LineRedactor(search);
  const lines = (texts.length > 0 ? texts.flatMap(linesOf) : await linesOfStdin()).map((text, index) => {
    const edits = redactor.edits(text);
    return {
      line: index + 1,
      text: apply(text, edits),
      masked: edits.map(({ from, to, rule }) => ({ rule, column: from + 1, length: to - from })),
    };
  });
  const masked = lines.reduce((sum, line) => sum + line.masked.length, 0);
  if (json) {
    voice.json({ lines, masked });
    return EXIT.ok;
  }
  for (const line of lines) {
    voice.out(`${line.line}: ${line.text}`);
    for (const { rule, column, length } of line.masked) {
      voice.out(['  ', { tone: 'warning', text: rule }, ` at column ${column}, ${count(length, 'character')}`]);
    }
  }
  voice.out(`${count(masked, 'mask')} in ${count(lines.length, 'line')}`);
  return EXIT.ok;
}

async function linesOfStdin(): Promise<string[]> {
  const bytes = await readStdin(LARGEST_TRIAL);
  if (bytes.length <= LARGEST_TRIAL) return linesOf(textOf(bytes));
  throw new Ending(EXIT.usage, 'more than 1 MiB to try: give it a part (head -n 100)');
}

function linesOf(text: string): string[] {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}
