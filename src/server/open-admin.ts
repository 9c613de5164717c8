import type { AddressInfo } from 'node:net';
import { type Admin, type AdminSettings, createAdmin } from '../observe/admin.js';
import type { Bind } from '../policy/policy.js';
import { AddressError, errorCode } from './address-error.js';
import { hostPort } from './listener-url.js';
import { sameBind } from './open-listeners.js';

/** The pages are served where another policy has them. One of the two is called, once. */
export interface ReadyAdmin {
  go(): void;
  abandon(): Promise<void>;
}

/** Where the admin pages are served: another policy may have them elsewhere, or nowhere. */
export class OpenAdmin {
  readonly #settings: Omit<AdminSettings, 'bind'>;
  #bind: Bind | null = null;
  #admin: Admin | null = null;
  #address: AddressInfo | null = null;

  constructor(settings: Omit<AdminSettings, 'bind'>) {
    this.#settings = settings;
  }

  get address(): AddressInfo | null {
    return this.#address;
  }

  /** All that can fail. What is served now goes on until then. @throws AddressError */
  async readyFor(bind: Bind | null): Promise<ReadyAdmin> {
    if (sameBind(this.#bind, bind)) return { go: () => undefined, abandon: () => Promise.resolve() };
    const admin = bind === null ? null : createAdmin({ ...this.#settings, bind });
    const address = admin === null || bind === null ? null : await listening(admin, bind);
    return {
      go: () => {
        const before = this.#admin;
        this.#bind = bind;
        this.#admin = admin;
        this.#address = address;
        void before?.close();
      },
      abandon: async () => {
        await admin?.close();
      },
    };
  }

  async close(): Promise<void> {
    await this.#admin?.close();
    this.#admin = null;
  }
}

async function listening(admin: Admin, bind: Bind): Promise<AddressInfo> {
  try {
    return await admin.listen();
  } catch (error) {
    throw new AddressError('admin', hostPort(bind.host, bind.port), errorCode(error));
  }
}
