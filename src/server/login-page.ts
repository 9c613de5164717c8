import { hash } from 'node:crypto';

/** What a login page shows. All texts but `alert` may come from outside; they are escaped here. */
export interface LoginPage {
  /** What the policy calls the service. */
  readonly title: string;
  /** A user name and a password can be typed. */
  readonly password: boolean;
  /** A token can be pasted. */
  readonly token: boolean;
  /** Where to go on after the login: a path of this origin. */
  readonly next: string;
  /** What went wrong. Null: nothing yet. */
  readonly alert: string | null;
  /** Whose session it is already. Null: nobody's. */
  readonly signedInAs: string | null;
}

/** Contrast is 4.5:1 at least in both colour schemes (WCAG 2.2, 1.4.3), 3:1 around what can be typed into (1.4.11). */
const STYLE = `
:root { color-scheme: light dark; --text: #1c1b1a; --page: #fffdf8; --line: #77706a; --act: #7a4b00; --on: #ffffff; --bad: #a3160b; }
@media (prefers-color-scheme: dark) {
  :root { --text: #f3f0ea; --page: #1b1a18; --line: #a39b92; --act: #ffc861; --on: #1b1a18; --bad: #ffb4a9; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; color: var(--text); background: var(--page); font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 24rem; margin: 8vh auto 0; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.1rem; margin: 2rem 0 0; }
label { display: block; font-weight: 600; margin-top: 1rem; }
input, button { width: 100%; min-height: 2.75rem; padding: 0.5rem 0.75rem; font: inherit; border-radius: 0.375rem; }
input { color: inherit; background: transparent; border: 1px solid var(--line); }
button { margin-top: 1.25rem; color: var(--on); background: var(--act); border: 1px solid var(--act); font-weight: 600; cursor: pointer; }
a { color: var(--act); }
input:focus-visible, button:focus-visible, a:focus-visible { outline: 3px solid var(--act); outline-offset: 2px; }
[role="alert"] { color: var(--bad); border-left: 4px solid var(--bad); padding-left: 0.75rem; font-weight: 600; }
`;

/**
 * Nothing but this page and its style; a form that goes here; no frame around it (clickjacking). Referrer-Policy is
 * `same-origin` and not `no-referrer`: with that, browsers send `Origin: null` with the form (WHATWG Fetch, "append a
 * request `Origin` header"), and those that know no Sec-Fetch-Site would be taken for another site.
 */
export const LOGIN_PAGE_FIELDS: readonly string[] = [
  'content-type',
  'text/html; charset=utf-8',
  'content-security-policy',
  `default-src 'none'; style-src 'sha256-${hash('sha256', STYLE, 'base64')}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
  'referrer-policy',
  'same-origin',
  'x-content-type-options',
  'nosniff',
  'cache-control',
  'no-store',
  'vary',
  'accept, cookie, sec-fetch-mode',
];

/** Plain HTML: no script, and nothing from elsewhere. */
export function loginPage(page: LoginPage): Buffer {
  const { signedInAs } = page;
  const title = signedInAs === null ? `Sign in to ${page.title}` : page.title;
  const lines = [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    // Whoever listens to the page hears its title first.
    `<title>${page.alert === null ? '' : 'Error: '}${text(title)}</title>`,
    `<style>${STYLE}</style>`,
    '</head>',
    '<body>',
    '<main>',
    `<h1>${text(title)}</h1>`,
    ...(page.alert === null ? [] : [`<p role="alert" id="alert">${text(page.alert)}</p>`]),
    ...(signedInAs === null ? forms(page) : signedIn(signedInAs, page.next)),
    '</main>',
    '</body>',
    '</html>',
    '',
  ];
  return Buffer.from(lines.join('\n'));
}

function forms(page: LoginPage): string[] {
  const both = page.password && page.token;
  return [
    ...(page.password
      ? form(page, both ? 'password-form' : null, 'With a password', [
          ...field(page, 'username', 'User name', 'text', 'username', true),
          ...field(page, 'password', 'Password', 'password', 'current-password', false),
        ])
      : []),
    ...(page.token
      ? form(
          page,
          both ? 'token-form' : null,
          'With a token',
          field(page, 'token', 'Token', 'password', both ? 'off' : 'current-password', !page.password),
        )
      : []),
  ];
}

/** @param heading Id of it; null: the only form needs none. */
function form(page: LoginPage, heading: string | null, name: string, fields: readonly string[]): string[] {
  return [
    ...(heading === null ? [] : [`<h2 id="${heading}">${name}</h2>`]),
    `<form method="post" action="/.guardbee/login"${heading === null ? '' : ` aria-labelledby="${heading}"`}>`,
    `<input type="hidden" name="next" value="${text(page.next)}">`,
    ...fields,
    '<button type="submit">Sign in</button>',
    '</form>',
  ];
}

function field(
  page: LoginPage,
  name: string,
  label: string,
  type: 'text' | 'password',
  autocomplete: string,
  first: boolean,
): string[] {
  return [
    `<label for="${name}">${label}</label>`,
    `<input id="${name}" name="${name}" type="${type}" autocomplete="${autocomplete}" autocapitalize="none" spellcheck="false" required` +
      `${page.alert === null ? '' : ' aria-describedby="alert"'}${first ? ' autofocus' : ''}>`,
  ];
}

function signedIn(name: string, next: string): string[] {
  return [
    `<p>You are signed in as <strong>${text(name)}</strong>.</p>`,
    `<p><a href="${text(next)}">Go on</a></p>`,
    '<form method="post" action="/.guardbee/logout">',
    '<button type="submit">Sign out</button>',
    '</form>',
  ];
}

const ESCAPED: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** For content and for quoted attributes. */
function text(value: string): string {
  return value.replace(/[&<>"']/g, (character) => ESCAPED[character] ?? '');
}
