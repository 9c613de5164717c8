/**
 * Sockets that systemd opened and handed over (socket activation, sd_listen_fds(3)): they listen while guardbee restarts, and
 * on ports below 1024 without a privilege of ours. A listener takes one by its name, and only where the address that the
 * socket really has is the one that the policy says, and so the one that the bind policy judged.
 */
import { Socket } from 'node:net';
import { formatAddressAndPort, parseAddress, sameAddress } from '../net/address.js';
import { either, show } from '../policy/found.js';
import type { Issue, IssueCode } from '../policy/issue.js';
import type { Bind, Listener, Policy } from '../policy/policy.js';

/** SD_LISTEN_FDS_START: the first after stdin, stdout and stderr. */
const FIRST = 3;

/** More would be a mistake. */
const MOST = 4096;

/** What sd_listen_fds_with_names(3) calls those that have none. */
const NAMELESS = 'unknown';

/** Fits behind "NAME, ". */
type What = 'tcp' | 'a unix socket' | 'a connection (Accept=yes)' | 'no stream socket';

interface Inherited {
  readonly name: string;
  readonly what: What;
  /** Of tcp sockets: where it is bound. */
  readonly host: string;
  readonly port: number;
  /** Holds the descriptor until a listener takes it, without reading from it or accepting. */
  readonly handle: Socket | null;
  taken: boolean;
}

/** A socket was closed when a reload removed its listener, and systemd hands each over once. */
export class SocketGoneError extends Error {
  override readonly name = 'SocketGoneError';
  readonly code = 'SOCKET_GONE';
}

export class InheritedSockets {
  readonly #all: readonly Inherited[];

  private constructor(all: readonly Inherited[]) {
    this.#all = all;
  }

  static readonly NONE = new InheritedSockets([]);

  /**
   * Those that are meant for this process. The variables are taken out of the environment, so that no child believes that
   * they are its own; the descriptors are closed in children by Node.
   */
  static take(env: NodeJS.ProcessEnv, pid: number): InheritedSockets {
    const { LISTEN_PID: forPid, LISTEN_FDS: count, LISTEN_FDNAMES: names } = env;
    for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID'])
      Reflect.deleteProperty(env, name);
    if (count === undefined || forPid !== String(pid) || !/^\d{1,4}$/.test(count)) return InheritedSockets.NONE;
    const named = names?.split(':') ?? [];
    return new InheritedSockets(
      Array.from({ length: Math.min(Number(count), MOST) }, (_, nth) => inherit(FIRST + nth, named[nth] ?? NAMELESS)),
    );
  }

  /** Listeners of the policy whose sockets were not handed over, or are bound elsewhere. */
  issues(policy: Policy): Issue[] {
    return policy.listeners.flatMap((listener) => {
      const { socket } = listener.bind;
      if (socket === null) return [];
      for (let nth = 0; nth < portsOf(listener); nth += 1) {
        if (this.#find(listener.bind, nth, true) !== null) continue;
        return [this.#issueOf(policy, listener, listener.bind, socket, nth)];
      }
      return [];
    });
  }

  /**
   * The socket for one of the ports of a listener, from then on the listener's.
   *
   * @param nth of its ports, from 0
   * @throws SocketGoneError
   */
  claim(bind: Bind, nth: number): Socket {
    const found = this.#find(bind, nth, false);
    if (found?.handle == null) throw new SocketGoneError('no such socket was handed over, or it was closed');
    found.taken = true;
    return found.handle;
  }

  /** What no listener has taken, in words. */
  get unused(): readonly string[] {
    return this.#all.filter(({ taken }) => !taken).map(describe);
  }

  /** @param takenToo of a listener that goes on with it */
  #find({ socket, host, port }: Bind, nth: number, takenToo: boolean): Inherited | null {
    const wanted = parseAddress(host);
    const found = this.#all.find((one) => {
      if (one.name !== socket || one.what !== 'tcp' || (one.taken && !takenToo)) return false;
      const address = parseAddress(one.host);
      return (
        address !== null && wanted !== null && sameAddress(address, wanted) && (port === 0 || one.port === port + nth)
      );
    });
    return found ?? null;
  }

  #issueOf(policy: Policy, listener: Listener, bind: Bind, socket: string, nth: number): Issue {
    const issue = (code: IssueCode, message: string, hint: string): Issue => ({
      severity: 'error',
      code,
      file: policy.file,
      line: bind.position.line,
      column: bind.position.column,
      key: `listeners.${listener.name}.bind`,
      message,
      hint,
    });
    const address = parseAddress(bind.host);
    const at = address === null ? bind.host : formatAddressAndPort(address, bind.port + nth);
    const named = this.#all.filter(({ name }) => name === socket);
    if (named.length === 0) {
      const names = [...new Set(this.#all.map(({ name }) => name))];
      return issue(
        'socket_missing',
        `systemd handed over no socket of the name ${show(socket)}${names.length === 0 ? ', nor any other' : `, only ${names.map(show).join(', ')}`}`,
        names.length === 0
          ? 'start the .socket unit and not the service alone, and run guardbee by it; or leave socket out'
          : `write FileDescriptorName=${socket} into the .socket unit, or socket: ${either(names)}`,
      );
    }
    return issue(
      'socket_elsewhere',
      `refusing the socket ${show(socket)}: bind says ${at}, and what systemd handed over is ${named.map(describe).join(', ')}`,
      `have ListenStream= of the .socket unit and bind say the same address; what bind says is what guardbee judges`,
    );
  }
}

function portsOf(listener: Listener): number {
  return listener.type === 'tcp' ? listener.lastPort - listener.bind.port + 1 : 1;
}

function describe({ name, what, host, port }: Inherited): string {
  const address = parseAddress(host);
  return what === 'tcp' && address !== null
    ? `${show(name)} at ${formatAddressAndPort(address, port)}`
    : `${show(name)}, ${what}`;
}

/** Takes hold of a descriptor and looks what it is. Nothing is read from it. */
function inherit(fd: number, name: string): Inherited {
  const nothing = { name, host: '', port: 0, handle: null, taken: false };
  let handle: Socket;
  try {
    handle = new Socket({ fd, readable: false, writable: false });
  } catch {
    // Node takes TCP and unix stream sockets, and says so of everything else.
    return { ...nothing, what: 'no stream socket' };
  }
  const address = handle.address();
  if (!('address' in address)) return { ...nothing, what: 'a unix socket' };
  if (handle.remoteAddress !== undefined) return { ...nothing, what: 'a connection (Accept=yes)' };
  return { name, what: 'tcp', host: address.address, port: address.port, handle, taken: false };
}
