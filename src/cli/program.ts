import { Command, CommanderError } from 'commander';
import { isShowable } from '../policy/found.js';
import { EXIT, EXIT_MEANINGS, Ending } from './exit-code.js';
import { ProcessVoice, type Voice } from './voice.js';

interface Verb {
  readonly name: string;
  readonly alias?: string;
  /** For the list in `guardbee --help`. */
  readonly summary: string;
  /** Loads the verb's file: only that of the verb that was asked for, so that a start is quick. */
  readonly register: (program: Command, voice: Voice) => Promise<void>;
}

const VERBS: readonly Verb[] = [
  {
    name: 'run',
    summary: 'serve; without a policy: guard a demo, or the service given by --upstream',
    register: async (program, voice) => {
      (await import('./run.js')).registerRun(program, voice);
    },
  },
  {
    name: 'check',
    alias: 'validate',
    summary: 'look through a policy as run would, and run its tests',
    register: async (program, voice) => {
      (await import('./check.js')).registerCheck(program, voice);
    },
  },
  {
    name: 'test',
    summary: 'run the tests of a policy, without its secrets',
    register: async (program, voice) => {
      (await import('./test.js')).registerTest(program, voice);
    },
  },
  {
    name: 'explain',
    summary: 'say what would become of a request, and which line decides',
    register: async (program, voice) => {
      (await import('./explain.js')).registerExplain(program, voice);
    },
  },
  {
    name: 'replay',
    summary: 'say which decisions of the past another policy would make otherwise',
    register: async (program, voice) => {
      (await import('./replay.js')).registerReplay(program, voice);
    },
  },
  {
    name: 'show',
    summary: 'print the policy in force: defaults filled in, secrets left out',
    register: async (program, voice) => {
      (await import('./show.js')).registerShow(program, voice);
    },
  },
  {
    name: 'schema',
    summary: 'print the JSON Schema of the policy file, for editors',
    register: async (program, voice) => {
      (await import('./schema.js')).registerSchema(program, voice);
    },
  },
  {
    name: 'init',
    summary: 'write a commented policy to begin with',
    register: async (program, voice) => {
      (await import('./init.js')).registerInit(program, voice);
    },
  },
  {
    name: 'token',
    summary: 'make, list, exchange and revoke API tokens',
    register: async (program, voice) => {
      (await import('./token.js')).registerToken(program, voice);
    },
  },
  {
    name: 'revoke',
    summary: 'declare a JWT or a session void before its time',
    register: async (program, voice) => {
      (await import('./revoke.js')).registerRevoke(program, voice);
    },
  },
  {
    name: 'reload',
    summary: 'have a running guardbee read its policy again, and say what came of it',
    register: async (program, voice) => {
      (await import('./reload.js')).registerReload(program, voice);
    },
  },
  {
    name: 'audit',
    summary: 'verify the audit trail, print its end, export it',
    register: async (program, voice) => {
      (await import('./audit.js')).registerAudit(program, voice);
    },
  },
  {
    name: 'redact',
    summary: 'take secrets out of the output of another program, line by line',
    register: async (program, voice) => {
      (await import('./redact.js')).registerRedact(program, voice);
    },
  },
  {
    name: 'cert',
    summary: 'make a certificate for development, or look at one',
    register: async (program, voice) => {
      (await import('./cert.js')).registerCert(program, voice);
    },
  },
  {
    name: 'health',
    summary: 'ask a running guardbee whether it is ready, for containers',
    register: async (program, voice) => {
      (await import('./health.js')).registerHealth(program, voice);
    },
  },
  {
    name: 'doctor',
    summary: 'look over the machine, the policy, and guardbee where it runs',
    register: async (program, voice) => {
      (await import('./doctor/doctor.js')).registerDoctor(program, voice);
    },
  },
];

/** Runs the verb that `argv` asks for; the exit code. Never rejects. */
export async function perform(argv: readonly string[], voice?: ProcessVoice): Promise<number> {
  const speaking = voice ?? new ProcessVoice(process.stdout, process.stderr, process.env);
  const code = await performAs(argv, speaking);
  const lost = await speaking.settled();
  if (lost === null) return code;
  speaking.err(`guardbee: stdout did not take all of it: ${lost}`);
  return code === EXIT.ok ? EXIT.policy : code;
}

async function performAs(argv: readonly string[], voice: Voice): Promise<number> {
  try {
    const program = await programFor(argv, voice);
    await program.parseAsync([...argv], { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    if (error instanceof Ending) {
      if (error.message !== '') voice.err(`guardbee: ${error.message}`);
      return error.code;
    }
    // It has said what it had to say; its own codes are 0 (help, version) and 1.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const { unexpected } = await import('./unexpected.js');
    voice.err(unexpected(error));
    return EXIT.policy;
  }
}

async function programFor(argv: readonly string[], voice: Voice): Promise<Command> {
  const program = new Command('guardbee')
    .description(
      'Stands in front of services that trust their network: TLS, tokens, allowlists and a log, from one file.',
    )
    .usage('VERB [options]')
    .exitOverride()
    .showHelpAfterError('(--help says more)')
    .configureOutput({
      writeOut: (text) => voice.out(text),
      writeErr: (text) => voice.err(text),
      outputError: (text, write) => write(`guardbee: ${withoutValues(text.replace(/^error: /, ''))}`),
    })
    .commandsGroup('Verbs:')
    .helpOption('-h, --help', 'say more')
    .helpCommand('help [verb]', 'say more about a verb')
    .addHelpText('after', EPILOGUE);

  if (argv.includes('--version') || argv.includes('-V')) program.version((await import('../version.js')).VERSION);
  else program.option('-V, --version', 'print the version');

  const asked = verbIn(argv);
  for (const verb of VERBS) {
    if (asked !== undefined && (asked === verb.name || asked === verb.alias)) {
      await verb.register(program, voice);
    } else {
      const line = program.command(verb.name).description(verb.summary);
      if (verb.alias !== undefined) line.alias(verb.alias);
    }
  }
  return program;
}

const EPILOGUE = `
Exit codes:
${EXIT_MEANINGS.map(({ code, meaning }) => `  ${code}  ${meaning}`).join('\n')}

Example:
  guardbee check policy.yaml
`;

function verbIn(argv: readonly string[]): string | undefined {
  const [first, second] = argv.filter((argument) => !argument.startsWith('-'));
  return first === 'help' ? second : first;
}

/** What was typed may be a secret: in the wrong place, or given to an option that there is not. */
function withoutValues(text: string): string {
  return text
    .replace(/'(--?[A-Za-z][A-Za-z-]*)=[^']*'/g, "'$1=…'")
    .replace(/'([^']*)'/g, (quoted: string, inside: string) => (isShowable(inside) ? quoted : "'…'"));
}
