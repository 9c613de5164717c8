/** Attacks on where a body ends. Each file tells its own; see `Hive.shared`. */
import './CVE-2021-21295.js';
import './CVE-2021-22960-CVE-2025-55315.js';
import './CVE-2023-46589.js';
import './CVE-2024-22019.js';
import './http2-reset-with-no-error.js';
