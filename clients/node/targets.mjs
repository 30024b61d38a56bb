// Where a gRPC target leads, as far as its text tells. It asks no name service.

import { BlockList, isIP } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8);
loopback.addAddress('::1', 'ipv6');

// Whether everything that a target names is this host. A name other than localhost is not.
export function isLoopback(target) {
  const [scheme, ...rest] = target.split(':');
  const path = rest.join(':');
  if (scheme === 'unix' && rest.length) return true;
  if (['ipv4', 'ipv6'].includes(scheme) && rest.length) {
    return path.split(',').every((address) => isLoopbackHost(hostOf(address)));
  }
  return isLoopbackHost(hostOf(scheme === 'dns' && rest.length ? path.split('/').pop() : target));
}

// Whether a target is a list of several addresses. A name is not, though it may have several.
export function listsSeveral(target) {
  return /^ipv[46]:.*,/.test(target);
}

// Of "host", "host:port", "[v6]:port" or a bare v6.
function hostOf(address) {
  if (address.startsWith('[')) return address.slice(1).split(']')[0];
  return /^([^:]+):\d+$/.exec(address)?.[1] ?? address;
}

function isLoopbackHost(host) {
  if (host === 'localhost') return true;
  const version = isIP(host);
  return version !== 0 && loopback.check(host, `ipv${version}`);
}
