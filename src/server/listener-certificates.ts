import { constants as cryptoConstants } from 'node:crypto';
import { join } from 'node:path';
import type { SecureContext, SecureContextOptions } from 'node:tls';
import type { AcmeCertificates, HostState } from '../acme/certificates.js';
import { PendingChallenges } from '../acme/pending-challenges.js';
import type { Log } from '../observe/log.js';
import type { Metrics } from '../observe/metrics.js';
import { constant } from '../observe/redact.js';
import { authorityDigest } from '../policy/client-authority.js';
import type { CertificatePair, HttpListener, Listener, Policy, TcpListener } from '../policy/policy.js';
import { CertificateError, describeCertificate } from './certificate.js';
import { clientCertificateOptions } from './client-certificate.js';
import { ensureSelfSigned } from './self-signed.js';
import { type SniContexts, createSniContexts } from './sni-contexts.js';
import { digestOfPairs } from './reloading.js';

export interface ListenerTls {
  readonly contexts: SniContexts;
  /** The same for all that shows and asks for the same. */
  readonly digest: string;
  /** Null: there is none yet, and an authority is asked. */
  readonly notAfter: Date | null;
}

/** By the name of the listener. */
export type TlsOfListeners = ReadonlyMap<string, ListenerTls>;

export interface ListenerCertificatesInit {
  readonly log: Log;
  readonly metrics: Metrics;
  /** Told that an authority has issued one. */
  readonly issued: () => void;
}

/** Where listeners have their certificates from: from files, made here, or from an authority that issues and renews them. */
export class ListenerCertificates {
  readonly #init: ListenerCertificatesInit;
  readonly challenges = new PendingChallenges();
  #acme: AcmeCertificates | null = null;

  constructor(init: ListenerCertificatesInit) {
    this.#init = init;
  }

  /** Of each host that an authority issues for. */
  get hosts(): readonly HostState[] {
    return this.#acme?.states() ?? [];
  }

  /**
   * Of every listener that has TLS. Contexts of certificates that are the same as before are the same. Nobody is asked
   * for any. @throws CertificateError, StateError
   */
  async of(policy: Policy, before: TlsOfListeners | null): Promise<TlsOfListeners> {
    await this.#readIssued(policy);
    const all = new Map<string, ListenerTls>();
    for (const listener of policy.listeners) {
      if (listener.type === 'redirect' || listener.tls === null) continue;
      const { tls, name } = listener;
      const pairs =
        tls.kind === 'files'
          ? tls.certificates
          : tls.kind === 'acme'
            ? this.#issuedTo(tls.hosts)
            : await ensureSelfSigned(join(policy.stateDir, 'tls', name), tls.names).then((made) => [
                { certFile: made.certFile, keyFile: made.keyFile, certPem: made.certPem, key: made.keyPem },
              ]);
      all.set(name, this.#contextsOf(listener, pairs, before?.get(name)));
    }
    return all;
  }

  /** With what an authority has issued since; null: all is as it was, or none is asked. */
  issuedSince(listener: Listener, known: ListenerTls | undefined): ListenerTls | null {
    if (listener.type === 'redirect' || listener.tls?.kind !== 'acme') return null;
    const made = this.#contextsOf(listener, this.#issuedTo(listener.tls.hosts), known);
    return made === known ? null : made;
  }

  /** Has an authority issue and renew what that policy asks for, which is in force now. */
  careFor(policy: Policy): void {
    this.#acme?.install(policy.acme, acmeHosts(policy));
    if (policy.acme !== null) this.#init.metrics.watchAcme(() => this.hosts);
  }

  /** In metrics, and in the log where one ends soon. */
  show(tls: TlsOfListeners): void {
    const { log, metrics } = this.#init;
    // Those of an ACME authority are renewed, and it is said of each host where they are not.
    const ours = [...tls].flatMap(([name, { notAfter, contexts }]): [string, Date][] =>
      notAfter === null || contexts.challenged !== null ? [] : [[name, notAfter]],
    );
    metrics.certificates(ours);
    for (const [name, notAfter] of ours) {
      const days = Math.floor((notAfter.getTime() - Date.now()) / 86_400_000);
      if (days >= 30) continue;
      log.warn('certificate.expiring', `the certificate of listener "${name}" expires in ${String(days)} days`, {
        'guardbee.listener': constant(name),
        'guardbee.days_left': days,
      });
    }
  }

  async stop(): Promise<void> {
    await this.#acme?.stop();
  }

  /** @param known of the same listener before; the same again where nothing has changed */
  #contextsOf(
    listener: HttpListener | TcpListener,
    pairs: readonly CertificatePair[],
    known: ListenerTls | undefined,
  ): ListenerTls {
    const { tls, clientCertificates } = listener;
    const missing = tls?.kind === 'acme' ? tls.hosts.filter((host) => this.#acme?.pairOf(host) == null) : null;
    const judge = clientCertificates === null ? '' : authorityDigest(clientCertificates.authority);
    const digest = `${digestOfPairs(pairs)} ${judge} ${missing?.join(' ') ?? ''}`;
    if (known?.digest === digest) return known;
    const challenged = (servername: string): SecureContext | null => this.challenges.tls(servername);
    const awaited = missing === null ? null : { missing, challenged };
    const contexts = createSniContexts(pairs, contextOptions(listener), awaited);
    const ends = pairs.map((pair) => describeCertificate(pair.certPem).notAfter.getTime());
    return { contexts, digest, notAfter: ends.length === 0 ? null : new Date(Math.min(...ends)) };
  }

  #issuedTo(hosts: readonly string[]): CertificatePair[] {
    return hosts.flatMap((host) => this.#acme?.pairOf(host) ?? []);
  }

  /** What an authority issued at an earlier time. */
  async #readIssued(policy: Policy): Promise<void> {
    if (policy.acme === null) return;
    const { log } = this.#init;
    const { AcmeCertificates, AcmeFileError } = await import('../acme/certificates.js');
    this.#acme ??= new AcmeCertificates(policy.stateDir, this.challenges, {
      notice: ({ level, event, message, host }) => {
        log[level](event, message, { 'guardbee.host': constant(host) });
      },
      exchanged: () => {
        this.#init.issued();
      },
      broke: (error) => {
        log.error('acme.broke', 'an order failed inside guardbee', log.errorFields(error));
      },
    });
    try {
      await this.#acme.read(acmeHosts(policy));
    } catch (error) {
      throw error instanceof AcmeFileError ? new CertificateError('key_too_open', error.message) : error;
    }
  }
}

/** Each once, in the order of the listeners. */
function acmeHosts({ listeners }: Policy): string[] {
  const hosts = listeners.flatMap((one) => (one.type !== 'redirect' && one.tls?.kind === 'acme' ? one.tls.hosts : []));
  return [...new Set(hosts)];
}

/** What every TLS context of a listener needs besides its certificate. */
function contextOptions(listener: HttpListener | TcpListener): SecureContextOptions {
  const { clientCertificates } = listener;
  return clientCertificates === null
    ? {}
    : clientCertificateOptions(clientCertificates, cryptoConstants.SSL_OP_NO_RENEGOTIATION);
}
