/** Attacks on who asks, and for which host. Each file tells its own; see `Hive.shared`. */
import './CVE-2018-5702.js';
import './CVE-2020-28483.js';
import './CVE-2022-31813-GHSA-gwhp-pf74-vj37.js';
import './absolute-form-host-confusion.js';
