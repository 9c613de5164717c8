/** Of unix sockets alone. */
const OF_SOCKETS: Readonly<Record<string, (address: string) => string>> = {
  NOT_A_SOCKET: (address) => `${address} is there already, and is no socket`,
  DIRECTORY_TOO_OPEN: (address) =>
    `${address} cannot be listened on: others may write to its directory, and put a socket of their own there (chmod 0755, of this user or root)`,
};

/** The address is taken, or may not be taken by this user. */
export class AddressError extends Error {
  readonly listener: string;
  readonly code: string;
  constructor(listener: string, address: string, code: string) {
    super(
      code === 'EADDRINUSE'
        ? `${address} is already in use`
        : code === 'EACCES'
          ? `${address} needs a privilege that this process does not have (a port below 1024?)`
          : code === 'SOCKET_GONE'
            ? `the socket that systemd opened at ${address} was closed when a reload removed its listener; restart guardbee`
            : (OF_SOCKETS[code]?.(address) ?? `${address} cannot be listened on (${code})`),
    );
    this.listener = listener;
    this.code = code;
  }
}

/** What the system calls it. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
}
