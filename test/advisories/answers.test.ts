/** Attacks that need a service that errs. Each file tells its own; see `Hive.shared`. */
import './CVE-2018-1002105.js';
import './CVE-2024-21536.js';
import './response-queue-poisoning.js';
