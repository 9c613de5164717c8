/** Attacks on what a connection costs, and on the process itself. Each file tells its own; see `Hive.shared`. */
import './CVE-2011-1473.js';
import './CVE-2018-12122.js';
import './CVE-2021-22883.js';
import './CVE-2024-37890.js';
import './CVE-2025-59465.js';
import './CVE-2026-21714.js';
