import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { requireComponent } from '../support/component.js';
import { writePolicy } from '../support/policy-builder.js';
import { GUARDBEE_ENTRY, REPOSITORY, runCommand } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { within } from '../support/wait.js';

const README = readFileSync(join(REPOSITORY, 'README.md'), 'utf8');

/** Every command line of the README, in order. */
const COMMANDS = [...README.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap((block) =>
  (block[1] ?? '').trim().split('\n'),
);

/** A file that the README has the reader save. */
function sample(name: string): string {
  const text = new RegExp(`Save this as \`${name}\`:\\s+\`\`\`yaml\\n([\\s\\S]*?)\`\`\``).exec(README)?.[1];
  assert.ok(text !== undefined, `the README shows ${name}`);
  return text;
}

/** Commands of which this test knows what must come of them. One that is not here fails the test below. */
const START = 'npm start';
const GUARD = 'npm start -- --upstream http://127.0.0.1:7833';
const RUN = 'npx guardbee run --policy policy.yaml';
const OPEN = 'npx guardbee run --policy open.yaml';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Shell {
  readonly dir: TemporaryDirectory;
  readonly port: number;
  readonly env: NodeJS.ProcessEnv;
}

/** The command as it stands, but for the ports, which others may be using here, and for where npx finds guardbee. */
function asRunHere(command: string, shell: Shell): string {
  return command
    .replaceAll('127.0.0.1:8443', `127.0.0.1:${String(shell.port)}`)
    .replace(/^npx guardbee/, `'${process.execPath}' '${GUARDBEE_ENTRY}'`)
    .replace(/^npm start(?: --)?/, `npm start -- --listen 127.0.0.1:${String(shell.port)} --admin off`);
}

function start(command: string, shell: Shell, cwd: string): ChildProcess {
  return spawn('sh', ['-c', `exec ${asRunHere(command, shell)}`], {
    cwd,
    env: shell.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
}

async function listening(child: ChildProcess): Promise<void> {
  let said = '';
  await within(
    new Promise<void>((resolve, reject) => {
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      child.stdout?.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (said.includes('"msg":"ready"')) resolve();
      });
      child.once('exit', (code) => {
        reject(new Error(`ended with ${String(code)}: ${said}`));
      });
    }),
    `a start; so far: ${said}`,
    120_000,
  );
}

/** npm passes a signal on to what it runs; the group is what was started here and nothing else. */
async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  process.kill(-child.pid, 'SIGTERM');
  await within(ended, 'the end of a started command', 15_000);
}

async function sh(command: string, shell: Shell): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const result = await runCommand('sh', ['-c', asRunHere(command, shell)], {
    cwd: shell.dir.path,
    env: { ...(shell.env as Record<string, string>) },
  });
  return { code: result.code, stdout: result.stdout, stderr: result.stderr };
}

test('every command of the README does what the README says', { timeout: 240_000 }, async (t) => {
  if (requireComponent('curl', t) === null) return;
  using dir = new TemporaryDirectory();
  const shell: Shell = {
    dir,
    port: await freePort(),
    env: { PATH: process.env['PATH'], HOME: dir.path, XDG_STATE_HOME: '', npm_config_update_notifier: 'false' },
  };
  let running: ChildProcess | null = null;
  let curls = 0;
  let seen = 0;
  try {
    for (const command of COMMANDS) {
      seen += 1;
      if (command === START) {
        running = start(command, shell, REPOSITORY);
        await listening(running);
      } else if (command.startsWith('curl ')) {
        const { stdout, code, stderr } = await sh(command.replace(/^curl/, 'curl -sS'), shell);
        assert.equal(code, 0, stderr);
        const expected = [
          /"status":401/,
          /"user":"quickstart"/,
          /^data: The\n\ndata: {2}bee\n[\s\S]*data: \[DONE\]\n\n$/,
        ][curls];
        assert.ok(expected !== undefined, 'the README has three curl lines');
        assert.match(stdout, expected);
        curls += 1;
      } else if (command === GUARD) {
        if (running !== null) await end(running);
        running = start(command, shell, REPOSITORY);
        await listening(running);
        await end(running);
        running = null;
      } else if (command === RUN) {
        const policy = join(dir.path, 'policy.yaml');
        const text = readFileSync(policy, 'utf8');
        writePolicy(dir, text.replace('127.0.0.1:8443', '127.0.0.1:0').replace('127.0.0.1:9180', '127.0.0.1:0'));
        running = start(command, shell, dir.path);
        await listening(running);
        await end(running);
        running = null;
      } else if (command === OPEN) {
        writePolicy(dir, sample('open.yaml'), 'open.yaml');
        const { code, stderr } = await sh(command, shell);
        assert.equal(code, 3, stderr);
        assert.match(stderr, /open\.yaml:\d+:\d+ listeners\.main/);
      } else if (command.startsWith('npx guardbee ')) {
        const { code, stderr } = await sh(command, shell);
        assert.equal(code, 0, `${command}: ${stderr}`);
      } else {
        assert.fail(`nobody knows what must come of: ${command}`);
      }
    }
  } finally {
    if (running !== null) await end(running);
  }
  assert.equal(curls, 3);
  assert.ok(seen >= 10, 'the README has its commands in sh blocks');
});

test('npx finds guardbee in a clone', async () => {
  const { code, stdout, stderr } = await runCommand('npx', ['guardbee', '--version'], { cwd: REPOSITORY });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^\d+\.\d+\.\d+$/m);
});

test('the policy shown in the README is a valid one', async () => {
  using dir = new TemporaryDirectory();
  const text = /## What a policy looks like\s+```yaml\n([\s\S]*?)```/.exec(README)?.[1];
  assert.ok(text !== undefined);
  writePolicy(dir, text, 'policy.yaml');
  const { code, stdout, stderr } = await runCommand(process.execPath, [GUARDBEE_ENTRY, 'test', 'policy.yaml'], {
    cwd: dir.path,
  });
  assert.equal(code, 0, stdout + stderr);
});
