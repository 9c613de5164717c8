/** Attacks on which path a request is for. Each file tells its own; see `Hive.shared`. */
import './CVE-2016-5385-CVE-2018-14773-CVE-2015-0219.js';
import './CVE-2020-5902-CVE-2021-32779.js';
import './CVE-2021-29492.js';
import './CVE-2021-41773-GHSA-2q7r-29rg-6m5h.js';
