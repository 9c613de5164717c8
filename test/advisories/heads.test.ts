/** Attacks on the request line, on fields and on what they say of the body's length, and on upgrades. Each file tells its own; see `Hive.shared`. */
import './CVE-2011-3368.js';
import './CVE-2017-7658.js';
import './CVE-2021-33193.js';
import './CVE-2022-32213.js';
import './CVE-2022-32214-CVE-2023-30589.js';
import './CVE-2023-25690.js';
import './CVE-2024-24791.js';
import './CVE-2024-27982.js';
import './h2c-smuggling.js';
import './websocket-smuggling.js';
