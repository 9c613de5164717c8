import { DENIALS, type DenialReason } from '../denial.js';
import type { ExchangeSink } from '../exchange.js';
import { peerAllowed } from '../gate/admit.js';
import type { Caller } from '../identity/caller.js';
import type { Evidence } from '../observe/audit/evidence.js';
import { LineLimit } from '../observe/line-limit.js';
import type { Log } from '../observe/log.js';
import type { Metrics } from '../observe/metrics.js';
import { type Redactor, constant } from '../observe/redact.js';
import { formatAddress, parsePeerAddress } from '../net/address.js';
import type { Listener } from '../policy/policy.js';

/** Who was refused, as far as it is known. */
export interface Refused {
  /** Canonical form; after trusted proxies. */
  readonly client: string;
  /** Null: nobody proved to be anybody. */
  readonly identity: string | null;
}

/** What happens to connections before there is a request; counted and logged by whoever listens to this. */
export interface ConnectionEvents {
  opened(listener: string): void;
  closed(listener: string): void;
  /** A connection was refused, before a request of it was read or a byte of it passed on. */
  refused(listener: string, reason: DenialReason, peer: string | null, who?: Refused): void;
  /** Bytes of a client, and to it, that a tcp listener passed on. */
  passed(listener: string, bytesIn: number, bytesOut: number): void;
  tlsFailed(listener: string, peer: string | null, code: string): void;
  /** A client certificate that OpenSSL does not accept, and its code for why. The connection goes on without it. */
  certificateRefused(listener: string, peer: string | null, code: string): void;
  unreadable(
    listener: string,
    peer: Caller | null,
    scheme: 'http' | 'https',
    reason: DenialReason,
    requestId: string,
    /** Answers, when what is to be recorded of it is. */
    send: () => void,
  ): void;
}

export interface ConnectionEventsInit {
  readonly log: Log;
  readonly redactor: Redactor;
  readonly metrics: Metrics;
  /** Has what was asked, and could not be read. */
  readonly sink: ExchangeSink;
  readonly evidence: Evidence | null;
  /** How many more are open. */
  readonly counted: (by: 1 | -1) => void;
}

/** Is somebody from that address to be sent away before TLS costs anything; if so, it is told of. A stranger is told nothing. */
export function turnsAway(listener: Listener, peer: string, events: ConnectionEvents): boolean {
  const address = parsePeerAddress(peer);
  if (address === null || peerAllowed(listener, address)) return false;
  events.refused(listener.name, 'address_denied', formatAddress(address));
  return true;
}

/** Lines of refused connections in a second. The metrics and the audit trail count them all. */
const REFUSALS_PER_SECOND = 100;

/** Each is counted, and said where it is to be heard of. */
export function connectionEvents({
  log,
  redactor,
  metrics,
  sink,
  evidence,
  counted,
}: ConnectionEventsInit): ConnectionEvents {
  const refusals = new LineLimit(REFUSALS_PER_SECOND, (what, count) => {
    const [reason = '', listener = ''] = what.split(' ');
    log.warn('connection.refused', `${String(count)} more connections refused within a second: ${reason}`, {
      'guardbee.listener': constant(listener),
      'guardbee.reason': constant(reason),
      'guardbee.connections': count,
    });
  });
  return {
    opened: (listener) => {
      counted(1);
      metrics.connectionOpened(listener);
    },
    closed: (listener) => {
      counted(-1);
      metrics.connectionClosed(listener);
    },
    passed: (listener, bytesIn, bytesOut) => {
      metrics.bytesPassed(listener, bytesIn, bytesOut);
    },
    refused: (listener, reason, peer, who) => {
      metrics.connectionRefused(listener, reason);
      evidence?.connectionRefused(listener, reason, who?.client ?? peer);
      if (!refusals.admits(`${reason} ${listener}`)) return;
      log.warn('connection.refused', `connection refused: ${reason}`, {
        'guardbee.listener': constant(listener),
        'guardbee.reason': constant(reason),
        'network.peer.address': peer === null ? null : constant(peer),
        'client.address': who === undefined ? null : constant(who.client),
        'guardbee.identity': who?.identity == null ? null : redactor.redactText(who.identity),
      });
    },
    tlsFailed: (listener, peer, code) => {
      metrics.tlsHandshakeFailed(listener);
      evidence?.tlsFailed(listener, peer, code);
      log.debug('tls.failed', 'TLS handshake failed', {
        'guardbee.listener': constant(listener),
        'network.peer.address': peer === null ? null : constant(peer),
        'error.type': constant(code),
      });
    },
    certificateRefused: (listener, peer, code) => {
      log.debug('tls.client_certificate', 'a client certificate was not accepted', {
        'guardbee.listener': constant(listener),
        'network.peer.address': peer === null ? null : constant(peer),
        'error.type': constant(code),
      });
    },
    unreadable: (listener, peer, scheme, reason, requestId, send) => {
      const recorded = sink.finished({
        stage: 'over',
        granted: false,
        upgrade: false,
        requestId,
        startedAtMs: Date.now(),
        durationMs: 0,
        listener,
        scheme,
        protocol: 'unknown',
        method: '',
        path: '',
        query: null,
        host: null,
        userAgent: null,
        peer: peer?.text ?? '',
        client: null,
        route: null,
        identity: null,
        credentialFingerprint: null,
        outcome: { kind: 'denied', reason },
        invalid: null,
        status: DENIALS[reason].status,
        upstream: null,
        upstreamMs: null,
        bytesIn: 0,
        bytesOut: 0,
        stream: 'none',
      });
      if (recorded === null) send();
      else void recorded.then(send);
    },
  };
}
