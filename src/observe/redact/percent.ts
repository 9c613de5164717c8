/** %XX of ASCII becomes the character; what is not ASCII stays encoded, it is in no token. */
export function percentDecode(text: string): string {
  return text.replace(/%([0-7][0-9A-Fa-f])/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
export const ENCODED = /%[0-9A-Fa-f]{2}/;
export const WHOLE_WORD = /\S+/g;
