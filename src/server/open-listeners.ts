import type { Bind, Listener } from '../policy/policy.js';
import type { Surroundings } from './handle.js';
import type { TlsOfListeners } from './listener-certificates.js';
import type { OpenListener } from './listener.js';

type Opens = (listener: Listener) => Promise<OpenListener>;

/** Those of another policy are open, or stay so. One of the two is called, once. */
export interface ReadyListeners {
  /** @param leaveMs how long those may go on that are no longer wanted, and connections that a listener could not have */
  go(tls: TlsOfListeners, around: Surroundings, leaveMs: number): void;
  abandon(): void;
}

/** Which listeners are open: each policy has its own, and a socket that two of them want stays. */
export class OpenListeners {
  #current: OpenListener[] = [];
  /** No longer in the policy; with what is underway there. */
  readonly #leaving = new Set<OpenListener>();

  /** Of the policy in force. */
  get current(): readonly OpenListener[] {
    return this.#current;
  }

  /** Those included that only end what they have. */
  get all(): readonly OpenListener[] {
    return [...this.#current, ...this.#leaving];
  }

  /** Those of the first policy. When one can't be had, those before it stay open. */
  async open(listeners: readonly Listener[], open: Opens): Promise<void> {
    for (const listener of listeners) this.#current.push(await open(listener));
  }

  /** All that can fail: those that are not there are opened. When one can't be had, none is, and nothing has changed. */
  async readyFor(listeners: readonly Listener[], open: Opens): Promise<ReadyListeners> {
    const staying = new Map<Listener, OpenListener>();
    const opened: OpenListener[] = [];
    const abandon = (): void => {
      for (const one of opened) one.destroy();
    };
    try {
      // What systemd handed over is closed for good if another one can't be opened after it.
      for (const listener of inheritedLast(listeners)) {
        const there = this.#current.find((one) => isAt(one.listener, listener) && ![...staying.values()].includes(one));
        if (there === undefined) opened.push(await open(listener));
        else staying.set(listener, there);
      }
    } catch (error) {
      abandon();
      throw error;
    }
    return {
      go: (tls, around, leaveMs) => {
        const byName = new Map(opened.map((one) => [one.listener.name, one]));
        for (const [listener, one] of staying) {
          one.swap(listener, tls.get(listener.name)?.contexts ?? null, around, leaveMs);
          byName.set(listener.name, one);
        }
        const stays = new Set(byName.values());
        for (const one of this.#current) if (!stays.has(one)) this.#leave(one, leaveMs);
        this.#current = listeners.flatMap(({ name }) => byName.get(name) ?? []);
      },
      abandon,
    };
  }

  /** The listener is in the policy no longer: what is underway there may come to its end. */
  #leave(open: OpenListener, leaveMs: number): void {
    this.#leaving.add(open);
    open.leave();
    const timer = setTimeout(() => {
      open.destroy();
    }, leaveMs).unref();
    void open.ended.then(() => {
      clearTimeout(timer);
      this.#leaving.delete(open);
    });
  }
}

function inheritedLast(listeners: readonly Listener[]): readonly Listener[] {
  return [true, false].flatMap((own) => listeners.filter(({ bind }) => (bind.socket === null) === own));
}

/** The socket that the one has serves the other as well. Any free port is a listener's by its name alone. */
function isAt(open: Listener, listener: Listener): boolean {
  const last = (one: Listener): number => (one.type === 'tcp' ? one.lastPort : one.bind.port);
  if (!sameBind(open.bind, listener.bind) || last(open) !== last(listener)) return false;
  return open.bind.port !== 0 || open.bind.path !== undefined || open.name === listener.name;
}

export function sameBind(one: Bind | null, other: Bind | null): boolean {
  return (
    one?.host === other?.host && one?.port === other?.port && one?.socket === other?.socket && one?.path === other?.path
  );
}
