import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXIT_MEANINGS } from '../../src/cli/exit-code.js';
import { runGuardbee } from '../support/process.js';
import { perform } from './in-process.js';

const VERBS = ['run', 'check', 'test', 'explain', 'show', 'schema', 'init', 'token', 'cert', 'health', 'doctor'];

test('help lists every verb and every exit code', async () => {
  const { code, stdout, stderr } = await perform('--help');
  assert.equal(code, 0);
  assert.equal(stderr, '');
  for (const verb of VERBS) assert.match(stdout, new RegExp(`^  ${verb}\\b`, 'm'));
  for (const { code: exit, meaning } of EXIT_MEANINGS) assert.ok(stdout.includes(`  ${String(exit)}  ${meaning}\n`));
  assert.equal((await perform('help')).stdout, stdout);
});

test('help about one verb says as much as its --help', async () => {
  for (const verb of VERBS) {
    const help = await perform(verb, '--help');
    assert.equal(help.code, 0, verb);
    assert.match(help.stdout, /\nExample:\n {2}guardbee /, verb);
    assert.equal((await perform('help', verb)).stdout, help.stdout);
  }
  assert.equal((await perform('validate', '--help')).stdout, (await perform('check', '--help')).stdout);
});

test('the version is that of the package', async () => {
  const { code, stdout } = await perform('--version');
  assert.equal(code, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  assert.equal((await perform('-V')).stdout, stdout);
});

const WRONG: readonly { readonly argv: readonly string[]; readonly says: RegExp }[] = [
  { argv: [], says: /^Usage: guardbee VERB/ },
  { argv: ['chek'], says: /unknown command 'chek'\n\(Did you mean check\?\)/ },
  { argv: ['tokn', 'new'], says: /Did you mean token\?/ },
  { argv: ['token'], says: /^Usage: guardbee token/ },
  { argv: ['token', 'nwe'], says: /Did you mean new\?/ },
  { argv: ['--verbose'], says: /unknown option '--verbose'/ },
  { argv: ['check', '--polcy', 'x'], says: /unknown option '--polcy'\n\(Did you mean --policy\?\)/ },
  { argv: ['check', '--policy'], says: /argument missing/ },
  { argv: ['check'], says: /which policy\?/ },
  { argv: ['check', ''], says: /the name of the policy file is empty/ },
  { argv: ['check', 'a.yaml', '--policy', 'b.yaml'], says: /one policy at a time: found a\.yaml and b\.yaml/ },
  { argv: ['check', 'a.yaml', 'b.yaml'], says: /too many arguments/ },
  { argv: ['explain', 'GET'], says: /METHOD and PATH/ },
  { argv: ['explain', 'GET', '--listener', 'main'], says: /METHOD and PATH/ },
  { argv: ['init'], says: /for which service\? Say --for NAME; there are .*quickstart/ },
  { argv: ['init', '--for', 'quikstart'], says: /there is no preset "quikstart", did you mean quickstart\?/ },
  { argv: ['init', '--for', 'queen'], says: /did you mean rbee-queen\?/ },
  { argv: ['token', 'new', '--role', 'a'], says: /whose token\?/ },
  { argv: ['token', 'new', '--name', 'a'], says: /opens nothing/ },
  { argv: ['token', 'new', '--name', '7up', '--role', 'a'], says: /--name "7up": allowed is a name: a letter, then/ },
  { argv: ['token', 'new', '--name', 'a', '--role', 'b c'], says: /--role "b c"/ },
  { argv: ['cert', 'dev', '--dir', '/nowhere'], says: /for which names\?/ },
  { argv: ['cert', 'dev', '--name', 'localhost'], says: /into which folder\?/ },
  { argv: ['health', '--admin', '9180'], says: /write 127\.0\.0\.1:9180/ },
];

for (const { argv, says } of WRONG) {
  test(`guardbee ${argv.join(' ')}`, async () => {
    const { code, stdout, stderr } = await perform(...argv);
    assert.equal(code, 2, stderr);
    assert.equal(stdout, '');
    assert.match(stderr, says);
  });
}

test('what may be a secret is not repeated, wherever it was typed', async () => {
  const secret = 'gbee_3fXk9QeB7vT1mN5sRw8ZyA2cDh6LpJ4uGo0iKqVtWxE';
  const places = [
    [secret],
    ['token', secret],
    ['token', 'hash', secret],
    ['token', 'hash', '-', secret],
    ['token', 'hash', `--token=${secret}`],
    ['token', 'hash', '--token=hunter2'],
    ['check', `--${secret}`],
    ['explain', 'GET', '/', '--policy', '/nowhere', secret],
    ['init', '--for', secret],
    ['token', 'new', '--name', `${secret}${secret}`, '--role', 'a'],
  ];
  for (const argv of places) {
    const { code, stdout, stderr } = await perform(...argv);
    assert.equal(code, 2, argv.join(' '));
    // A file name is shown as it was given: the user has to see which file is not there.
    if (argv[0] === 'explain') continue;
    assert.ok(!`${stdout}${stderr}`.includes(secret.slice(5)), argv.join(' '));
    assert.ok(!`${stdout}${stderr}`.includes('hunter2'), argv.join(' '));
  }
});

test('a policy can be named in the environment', async () => {
  const { code, stderr } = await runGuardbee(['check'], { env: { GUARDBEE_POLICY: '/nowhere/policy.yaml' } });
  assert.equal(code, 1);
  assert.match(stderr, /^\/nowhere\/policy\.yaml: there is no such file/);
});
