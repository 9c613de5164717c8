/** What a listener may know its callers by without their saying anything: certificates of the handshake, and addresses. */
import { formatBind } from './bind.js';
import type { ParsedBind } from './bind.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { show } from './found.js';
import type { Authenticator, MtlsAuthenticator, Route } from './policy.js';

/** The rules for one listener; asked of each authenticator where it is named. */
export class AmbientCallers {
  readonly #listener: string;
  readonly #node: Draft;
  readonly #findings: Findings;
  #mtls: MtlsAuthenticator | null = null;

  /** @param node of the listener */
  constructor(listener: string, node: Draft, findings: Findings) {
    this.#listener = listener;
    this.#node = node;
    this.#findings = findings;
  }

  /**
   * May it stand here, beside those that stand before it in the list. True where something was said of it already, so
   * that nothing else need be.
   */
  check(authenticator: Authenticator, others: readonly Authenticator[], node: Draft | null): boolean {
    const network = [authenticator, ...others].find((one) => one.type === 'network');
    const [other] = others;
    if (network !== undefined && other !== undefined) {
      const beside = network === authenticator ? other : authenticator;
      this.#findings.error(
        'ambiguous_authenticators',
        node,
        'value',
        `${show(network.name)} knows callers by their address, so ${show(beside.name)} cannot stand beside it: who shows it nothing, or leaves a bad credential out, would be somebody all the same`,
        'give the routes for such callers an authenticate of their own',
      );
      return true;
    }
    return authenticator.type === 'mtls' && this.#checkMtls(authenticator, node);
  }

  #checkMtls(authenticator: MtlsAuthenticator, node: Draft | null): boolean {
    if (!this.#node.declares('tls')) {
      this.#findings.error(
        'mtls_without_tls',
        node,
        'value',
        `${show(authenticator.name)} knows callers by their TLS certificates, and the listener ${show(this.#listener)} has no tls`,
        'write tls: { cert: FILE, key: FILE } in the listener',
      );
    }
    const first = this.#mtls;
    this.#mtls ??= authenticator;
    if (first === null || first === authenticator) return false;
    this.#findings.error(
      'ambiguous_authenticators',
      node,
      'value',
      `${show(first.name)} and ${show(authenticator.name)} both judge client certificates, and a listener asks for them once, in the handshake, before a route is known`,
      'put the authorities into one ca file and the identities into one authenticator; or give each its own listener',
    );
    return true;
  }

  /** @param node of `local_identity` */
  checkLocal(bind: ParsedBind, node: Draft): void {
    const refuse = (why: string, hint: string): void => {
      this.#findings.error('local_identity_not_local', node, 'key', `refusing local_identity: ${why}`, hint);
    };
    const elsewhere = 'move it to a listener of its own: plain HTTP on 127.0.0.1';
    if (!bind.loopback) {
      refuse(`${formatBind(bind)} is reachable from other machines, whose callers are not local`, elsewhere);
    } else if (this.#node.declares('tls')) {
      refuse('it is for callers that can speak plain HTTP alone, and this listener has tls', elsewhere);
    }
  }
}

/** Does anything of a listener ask who is calling; and if not, is that because an address is not enough. */
export function beyondLoopbackCounts(
  routes: readonly Route[],
  networkIsEnough: boolean,
): { readonly authenticated: boolean; readonly networkAlone: boolean } {
  const asking = routes.flatMap((route) => route.authenticators);
  const proving = asking.some((one) => one.type !== 'network');
  return {
    authenticated: proving || (networkIsEnough && asking.length > 0),
    networkAlone: !proving && asking.length > 0,
  };
}
