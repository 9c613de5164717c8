/** Attacks by number and by length over HTTP/2. Each file tells its own; see `Hive.shared`. */
import './CVE-2019-9512.js';
import './CVE-2023-44487.js';
import './CVE-2024-27983.js';
