import { get } from 'node:http';
import { isIPv4 } from 'node:net';
import type { Command } from 'commander';
import { formatAddressAndPort, parseAddress } from '../net/address.js';
import { escapeControls } from '../observe/control-characters.js';
import { EXIT, Ending, ending } from './exit-code.js';
import { type PolicyOptions, namedPolicy } from './policy-option.js';
import type { Voice } from './voice.js';

const DEFAULT_ADMIN = { host: '127.0.0.1', port: 9180 };
const TIMEOUT_MS = 3000;
const LONGEST_BODY = 64 * 1024;

interface HealthOptions extends PolicyOptions {
  readonly admin?: string;
  readonly live?: true;
  readonly json?: true;
}

export function registerHealth(program: Command, voice: Voice): void {
  program
    .command('health')
    .description(
      'Asks a running guardbee, at its admin address, whether it is ready. Exits with 0 when it is, else with 1; within 3 seconds.',
    )
    .argument('[policy]', 'policy file that says the admin address')
    .option('-p, --policy <file>', 'the same (also: GUARDBEE_POLICY)')
    .option('-c, --config <file>', 'the same')
    .option('--admin <address>', 'the admin address itself (127.0.0.1:9180)')
    .option('--live', 'ask only whether it is alive')
    .option('--json', 'report as JSON')
    .addHelpText('after', '\nExample:\n  guardbee health --policy policy.yaml\n')
    .action(
      ending(async (positional: string | undefined, options: HealthOptions) => {
        return await health(await adminAddress(positional, options), options, voice);
      }),
    );
}

export interface AdminAddress {
  readonly host: string;
  readonly port: number;
}

/** Reads a policy only where one was named: a container asks every few seconds. */
async function adminAddress(positional: string | undefined, options: HealthOptions): Promise<AdminAddress> {
  if (options.admin !== undefined) {
    // The usual form is read here: loading what reads the others takes a tenth of a second.
    const [, host = '', port = ''] = /^([\d.]+):([1-9]\d{0,4})$/.exec(options.admin) ?? [];
    if (isIPv4(host) && Number(port) <= 65535) return { host, port: Number(port) };
    const { parseBind } = await import('../policy/bind.js');
    const read = parseBind(options.admin);
    if (read.ok) return read.value;
    throw new Ending(EXIT.usage, `--admin: ${read.problem}${read.hint === undefined ? '' : `: ${read.hint}`}`);
  }
  if (namedPolicy(positional, options) === null) return DEFAULT_ADMIN;
  const { openPolicy } = await import('./policy-source.js');
  const source = await openPolicy(positional, options);
  const loaded = await source.load({ skipSecretFiles: true });
  if (!loaded.ok) {
    throw new Ending(
      EXIT.policy,
      `${source.file} is not valid ("guardbee check" says more): say --admin ADDRESS instead`,
    );
  }
  if (loaded.policy.admin !== null) return loaded.policy.admin;
  throw new Ending(EXIT.policy, `${source.file} has no admin address: write admin: { bind: 127.0.0.1:9180 } into it`);
}

async function health(address: AdminAddress, options: HealthOptions, voice: Voice): Promise<number> {
  const live = options.live === true;
  const answer = await askAdmin(address, live ? '/healthz' : '/readyz');
  const ok = answer.kind === 'answered' && answer.status === 200;
  const at = addressText(address);
  if (options.json === true) {
    voice.json({
      address: at,
      ok,
      ...(answer.kind === 'answered' ? { status: answer.status, says: answer.body } : { error: answer.why }),
    });
  } else if (ok) {
    voice.out(live ? 'alive' : 'ready');
  } else {
    const why =
      answer.kind === 'answered' ? `${at} answers ${answer.status}${summaryOf(answer.body)}` : `${at}: ${answer.why}`;
    voice.err(`guardbee: ${live ? 'not alive' : 'not ready'}: ${why}`);
  }
  return ok ? EXIT.ok : EXIT.policy;
}

export function addressText({ host, port }: AdminAddress): string {
  const address = parseAddress(host);
  return address === null ? `${host}:${port}` : formatAddressAndPort(address, port);
}

export type AdminAnswer =
  /** `body` is what its JSON says, or its text. */
  | { readonly kind: 'answered'; readonly status: number; readonly body: unknown }
  | { readonly kind: 'silent'; readonly why: string };

export async function askAdmin(address: AdminAddress, path: string): Promise<AdminAnswer> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  return await new Promise((resolve) => {
    const silent = (error: NodeJS.ErrnoException): void => {
      const why = signal.aborted
        ? `no answer within ${TIMEOUT_MS / 1000} s`
        : error.code === 'ECONNREFUSED'
          ? 'nothing listens there'
          : (error.code ?? 'no answer');
      resolve({ kind: 'silent', why });
    };
    const request = get({ host: address.host, port: address.port, path, agent: false, signal }, (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length <= LONGEST_BODY) chunks.push(chunk);
        else end();
      });
      const end = (): void => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({ kind: 'answered', status: response.statusCode ?? 0, body: parsedBody(text) });
        // Whoever sends without end is not guardbee, and is not listened to until the time is over.
        response.destroy();
      };
      response.on('error', silent);
      response.on('end', end);
    });
    request.on('error', silent);
  });
}

function parsedBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text.trim().slice(0, 200);
  }
}

/** A few words out of an answer: its text, or its JSON on one line. */
export function summaryOf(body: unknown): string {
  const text = escapeControls((typeof body === 'string' ? body : JSON.stringify(body)).slice(0, 1000));
  return text === '' ? '' : `: ${text}`;
}
