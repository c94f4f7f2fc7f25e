/**
 * Who is let in. The server is reached by other programs of this machine and, through a browser, by any web page its user looks at;
 * both are kept out:
 *
 * - A token (256 random bits) in the printed address is exchanged once for a cookie of this port: HttpOnly, SameSite=Strict.
 * - `Host` must be the very address the connection came in by (or localhost): a name that somebody points here (DNS rebinding) is refused.
 * - `Origin`, where a browser sends one, must be this page; requests that do something must have it.
 *
 * Pure but for the random numbers.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';

export interface Knock {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The address and port that the connection came in by. */
  readonly local: { readonly address: string; readonly port: number };
}

export type Verdict =
  | { readonly kind: 'enter' }
  /** The token was right: the page is to be opened with this cookie. */
  | { readonly kind: 'welcome'; readonly cookie: string }
  | { readonly kind: 'refuse'; readonly status: 401 | 403; readonly code: string; readonly message: string; readonly hint: string };

const bytes = (): string => randomBytes(32).toString('base64url');

const equal = (a: string, b: string): boolean => {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  return x.length === y.length && timingSafeEqual(x, y);
};

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1)$/;
/** `::ffff:127.0.0.1` is how a dual-stack socket names an IPv4 peer. */
const bare = (address: string): string => address.replace(/^::ffff:/, '');

export class Gate {
  private token = bytes();
  private readonly session = bytes();

  /** @param onWelcome told with the next token, since the one before is used up. */
  constructor(private readonly onWelcome: (token: string) => void = () => undefined) {}

  get currentToken(): string {
    return this.token;
  }

  judge(k: Knock): Verdict {
    const host = one(k.headers['host']);
    if (!this.isThisHost(host, k.local)) {
      return refuse(403, 'WRONG_HOST', `this server is not ${host ?? 'without a Host header'}`, 'Open the address that podway ui printed.');
    }
    const origin = one(k.headers['origin']);
    const acts = k.method !== 'GET' && k.method !== 'HEAD';
    if (origin === undefined ? acts : origin !== `http://${host ?? ''}`) {
      return refuse(403, 'FOREIGN_ORIGIN', `a request from ${origin ?? 'nowhere'} is not taken`, 'Only the page of this server may ask.');
    }
    const name = `podway_ui_${k.local.port}`;
    const known = cookies(one(k.headers['cookie'])).some(([n, v]) => n === name && equal(v, this.session));
    const site = one(k.headers['sec-fetch-site']);
    if (k.path !== '/' && site !== undefined && site !== 'same-origin' && site !== 'none') {
      return refuse(403, 'FOREIGN_ORIGIN', `a ${site} request is not taken`, 'Only the page of this server may ask.');
    }
    const token = k.path === '/' && !acts ? k.query.get('token') : null;
    if (token !== null && equal(token, this.token)) {
      this.token = bytes();
      this.onWelcome(this.token);
      return { kind: 'welcome', cookie: `${name}=${this.session}; Path=/; HttpOnly; SameSite=Strict` };
    }
    if (known) return { kind: 'enter' };
    return refuse(401, 'NO_TOKEN', token === null ? 'this page is not open to everybody' : 'this address has been used already', 'Open the address that podway ui printed last; each works once.');
  }

  private isThisHost(host: string | undefined, local: Knock['local']): boolean {
    const m = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(host ?? '');
    const name = m?.[1] ?? m?.[2];
    if (name === undefined || Number(m?.[3] ?? 80) !== local.port) return false;
    const address = bare(local.address);
    return name === 'localhost' ? LOOPBACK.test(address) : isIP(name) !== 0 && name === address;
  }
}

const refuse = (status: 401 | 403, code: string, message: string, hint: string): Verdict => ({ kind: 'refuse', status, code, message, hint });
const one = (v: string | string[] | undefined): string | undefined => (Array.isArray(v) ? v[0] : v);
const cookies = (header: string | undefined): [string, string][] =>
  (header ?? '').split(';').map((c) => c.trim().split('=')).map(([n = '', ...v]) => [n, v.join('=')]);
