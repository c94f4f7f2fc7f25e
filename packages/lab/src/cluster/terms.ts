/** The terms that lab files are made of. Pure. */
import { tryParseIp, tryParseIpCidr } from '@podway/cni';
import { z } from 'zod';

export const cidr = z.string().refine((s) => tryParseIpCidr(s) !== undefined, 'must be a range in CIDR notation, such as 10.244.0.0/16');
export const ip = z.string().refine((s) => tryParseIp(s) !== undefined, 'must be an IP address');
export const dnsLabel = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be a name of lower-case letters, digits and dashes');
export const mtu = z.number().int().min(576).max(65535);
