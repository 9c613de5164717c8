import type { ControlRequest } from './control.js';

const WAYS = ['verify', 'tail', 'export', 'replay'] as const;

/** That somebody on this machine read the audit trail. */
export interface AuditAccess {
  readonly how: (typeof WAYS)[number];
  /** A user's name, as the command that read says it: the control socket is open to its owner and root alone. */
  readonly by: string;
}

/** Null: the request is another, or something in it is not what it must be. */
export function readAuditAccess({ cmd, how, by }: ControlRequest): AuditAccess | null {
  const way = WAYS.find((one) => one === how);
  if (cmd !== 'audit_accessed' || way === undefined) return null;
  if (typeof by !== 'string' || !/^[A-Za-z0-9._ -]{1,64}$/.test(by)) return null;
  return { how: way, by };
}
