import { supposeConnection } from '../gate/policy-tests.js';
import { either, show } from '../policy/found.js';
import type { Policy, RequestTest, TcpListener } from '../policy/policy.js';
import { EXIT, Ending } from './exit-code.js';
import { canonical } from './explanation.js';
import { positionOf } from './policy-source.js';
import { type Rules, checkNames } from './question.js';
import { allHolders, guess } from './supposed-caller.js';
import type { Voice } from './voice.js';

/** A connection that is only supposed. */
export interface ConnectionQuestion {
  readonly listener: string;
  /** Null: from this machine. */
  readonly from: string | null;
  readonly as: string | null;
  readonly roles: readonly string[];
  readonly permissions: readonly string[];
}

/** The answer, as `--json` prints it. */
interface ConnectionExplanation {
  readonly decision: 'allowed' | 'refused';
  readonly reason: string | null;
  readonly listener: string;
  readonly upstream: string | null;
  readonly file: string;
  readonly line: number;
  readonly text: string | null;
  readonly why: string;
  readonly needed: {
    /** Null: any. */
    readonly allow_from: readonly string[] | null;
    readonly from: readonly string[] | null;
    /** Null: no certificate. */
    readonly certificate: { readonly of: string; readonly any_of: readonly string[] } | null;
  };
}

/** Says what would become of a connection to a tcp listener. The number is the exit code. */
export async function explainConnection(
  question: ConnectionQuestion,
  rules: Rules,
  json: boolean,
  voice: Voice,
): Promise<number> {
  const nonsense = checkNames(question, [rules], voice);
  if (nonsense !== null) return nonsense;
  const { policy, source } = rules;
  const listener = listenerNamed(policy, question.listener);
  const said = supposeConnection(policy, { ...connectionOf(question, policy, listener) }, Date.now());
  if (said.kind === 'unanswerable') throw new Ending(EXIT.usage, said.why);
  const reason = said.kind === 'refused' ? said.reason : null;
  const text = await source.text();
  const key = keyFor(reason, listener);
  const line = (text === null ? null : positionOf(text, ['listeners', listener.name, key]))?.line ?? said.line;
  const { clientCertificates, anyOf } = listener;
  const explanation: ConnectionExplanation = {
    decision: said.kind,
    reason,
    listener: listener.name,
    upstream: said.kind === 'allowed' ? said.upstream : null,
    file: policy.file,
    line,
    text: text === null ? null : (text.split(/\r?\n/)[line - 1] ?? '').trim(),
    why: why(reason, question, listener),
    needed: {
      allow_from: listener.allowFrom?.texts ?? null,
      from: listener.from?.texts ?? null,
      certificate: clientCertificates === null ? null : { of: clientCertificates.name, any_of: anyOf },
    },
  };
  if (json) voice.json(explanation);
  else tell(explanation, voice);
  return EXIT.ok;
}

function listenerNamed(policy: Policy, name: string): TcpListener {
  const found = policy.listeners.find((one) => one.name === name);
  if (found?.type === 'tcp') return found;
  const names = policy.listeners.map((one) => one.name);
  throw new Ending(
    EXIT.usage,
    found === undefined
      ? `there is no listener ${show(name)} in ${policy.file}${guess(name, names)}`
      : `listener ${show(name)} is not of type tcp: say METHOD and PATH too`,
  );
}

function connectionOf(
  { listener, from, as, roles, permissions }: ConnectionQuestion,
  policy: Policy,
  { clientCertificates }: TcpListener,
): { readonly listener: string; readonly from: string; readonly as: RequestTest['as'] } {
  const shown = allHolders(policy).find(
    ({ authenticator, holder }) => holder.name === as && authenticator === clientCertificates?.name,
  );
  const supposed: RequestTest['as'] =
    shown !== undefined
      ? { name: shown.holder.name, roles: shown.holder.roles, permissions: [...shown.holder.grants] }
      : roles.length + permissions.length > 0
        ? { name: 'somebody', roles, permissions }
        : null;
  return { listener, from: from ?? '127.0.0.1', as: supposed };
}

function keyFor(reason: string | null, listener: TcpListener): string {
  if (reason === 'address_denied') return 'allow_from';
  if (reason === 'client_denied') return 'from';
  if (reason !== null || listener.clientCertificates !== null) return 'require';
  return listener.from !== null ? 'from' : listener.allowFrom !== null ? 'allow_from' : 'upstream';
}

function why(reason: string | null, { from, as }: ConnectionQuestion, listener: TcpListener): string {
  const at = canonical(from ?? '127.0.0.1');
  const another = from === null ? ' (--from ADDRESS asks for another one)' : '';
  switch (reason) {
    case null:
      return listener.clientCertificates === null
        ? `${at} may connect, and nobody is asked who they are`
        : `${at} may connect, and the certificate is of somebody who may`;
    case 'address_denied':
      return `${at} is not in allow_from, and is turned away before a byte is read${another}`;
    case 'client_denied':
      return `${at} is not in \`from\`${another}`;
    case 'credential_missing':
      return as === null
        ? 'a client certificate is needed, and none is shown'
        : `${show(as)} shows no certificate of this listener's authenticator`;
    default:
      return `whose certificate it is has none of ${either(listener.anyOf)}`;
  }
}

function tell(
  { decision, reason, listener, upstream, file, line, text, why: because, needed }: ConnectionExplanation,
  voice: Voice,
): void {
  const row = (label: string, value: string): void => {
    voice.out(`  ${`${label}:`.padEnd(10)}${value}`);
  };
  voice.out(
    decision === 'allowed'
      ? [{ tone: 'good', text: 'allowed' }, `: goes on to ${upstream ?? ''}`]
      : [{ tone: 'bad', text: 'refused' }, `: ${reason ?? ''}`],
  );
  row('listener', listener);
  row('decided', `${file}:${line}: ${text ?? ''}`);
  row('why', because);
  const parts = [
    needed.certificate === null
      ? 'no certificate'
      : `a certificate of ${needed.certificate.of} with ${either(needed.certificate.any_of)}`,
    ...(needed.allow_from === null ? [] : [`a connection from ${needed.allow_from.join(', ')}`]),
    ...(needed.from === null ? [] : [`a client at ${needed.from.join(', ')}`]),
  ];
  row('needed', parts.join(', '));
}
