import { createHash, randomBytes } from 'node:crypto';

/** Something that must be seen nowhere. */
export class Canary {
  readonly name: string;
  readonly value: string;

  constructor(name: string, value: string) {
    this.name = name;
    this.value = value;
  }

  /** Every form in which it could be written down. */
  get forms(): readonly string[] {
    const bytes = Buffer.from(this.value, 'latin1');
    return [
      this.value,
      encodeURIComponent(this.value),
      encodeURIComponent(encodeURIComponent(this.value)),
      bytes.toString('base64'),
      bytes.toString('hex'),
      [...bytes].join(','),
      // What a policy holds of a token is for nobody's eyes either.
      createHash('sha256').update(this.value).digest('hex'),
    ];
  }
}

/** A third of a token of 256 bits. Shorter parts of random text are met by chance, and of use to nobody. */
const PART = 14;

export interface Song {
  readonly canary: string;
  readonly line: string;
}

/** Hears any of many canaries, or any part of one that is long enough to be of use, in one pass over a text. */
export class Ear {
  readonly #parts = new Map<string, string>();

  constructor(canaries: readonly Canary[]) {
    for (const { name, forms } of canaries) {
      for (const form of forms) {
        for (let at = 0; at + PART <= form.length; at += 1) this.#parts.set(form.slice(at, at + PART), name);
      }
    }
  }

  hear(text: string): readonly Song[] {
    const songs: Song[] = [];
    for (const line of text.split('\n')) {
      for (let at = 0; at + PART <= line.length; at += 1) {
        const canary = this.#parts.get(line.slice(at, at + PART));
        if (canary === undefined) continue;
        songs.push({ canary: `${canary}, at ${String(at)}: ${line.slice(at, at + PART)}…`, line });
        break;
      }
    }
    return songs;
  }
}

const base64url = (bytes: number): string => randomBytes(bytes).toString('base64url');

/** So many characters of base64 without its two of trouble. */
function letters(count: number): string {
  return randomBytes(count * 4)
    .toString('base64')
    .replaceAll(/[+/=]/g, '')
    .slice(0, count);
}

/** One of each kind that people carry about; made anew each time. */
export function makeCanaries(validToken: string): readonly Canary[] {
  const claims = Buffer.from(JSON.stringify({ sub: base64url(12), exp: 4102444800, roles: ['operator'] }));
  return [
    new Canary('a valid token', validToken),
    new Canary(
      'a JWT',
      `${Buffer.from('{"alg":"ES256","typ":"JWT"}').toString('base64url')}.${claims.toString('base64url')}.${base64url(64)}`,
    ),
    new Canary('an OpenAI key', `sk-proj-${letters(40)}`),
    new Canary('a GitHub token', `ghp_${letters(36)}`),
    new Canary('a Hugging Face token', `hf_${letters(34)}`),
    new Canary('an AWS key', `AKIA${randomBytes(10).toString('hex').toUpperCase().slice(0, 16)}`),
    // A slash in it is what a path ends at, and `%2F` what a decoder looks for.
    new Canary('base64 with a slash behind its middle', `${letters(27)}/${letters(15)}=`),
    new Canary('base64 with a slash before its middle', `${letters(13)}/${letters(9)}+${letters(19)}=`),
    new Canary('random hex', randomBytes(32).toString('hex')),
    new Canary('a token of ours that is nobody’s', `gbee_${base64url(32)}`),
  ];
}

/** A password as people make them: nothing about it looks random, so it is hidden for where it stands alone. */
export const PASSWORD = new Canary('a password', 'Correct-Horse-Battery-Staple');
