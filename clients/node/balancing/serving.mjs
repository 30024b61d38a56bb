// A policy for the servers that a target lists: round robin over those that report SERVING. While none does, all get
// calls: some calls need no engine, and a server says itself why it refuses the others.
//
// @grpc/grpc-js has no such policy, and lets its callers register one (`experimental`). It has a place for the health of
// a connection, which its outlier detection uses, but nothing that asks a server.

import { connectivityState as states, experimental } from '@grpc/grpc-js';

import { HealthWatch } from './watch.mjs';

const NAME = 'csm_serving';

// For a channel's service config. service: whose health is watched
export const servingPolicy = (service) => ({ [NAME]: { service } });

class Config {
  constructor(service) {
    this.service = service;
  }

  static createFromJson({ service }) {
    return new Config(service);
  }

  getLoadBalancerName() {
    return NAME;
  }

  toJsonObject() {
    return servingPolicy(this.service);
  }
}

// The connection to one server. It is CONNECTING until the server has reported its health.
class Watched extends experimental.BaseSubchannelWrapper {
  serves = false; // by its last report, on a connection that is there
  isNew = this.child.getConnectivityState() !== states.TRANSIENT_FAILURE; // it has neither reported nor failed yet
  #policy;
  #watch;
  #isReported = false;
  #listeners = new Set();

  constructor(subchannel, policy) {
    super(subchannel);
    this.#policy = policy;
    this.setHealthy(false);
    subchannel.addConnectivityStateListener(this.#follow);
    if (subchannel.getConnectivityState() === states.READY) this.#begin();
  }

  getConnectivityState() {
    const state = super.getConnectivityState();
    return state === states.READY && !this.#isReported ? states.CONNECTING : state;
  }

  addConnectivityStateListener(listener) {
    this.#listeners.add(listener);
  }

  removeConnectivityStateListener(listener) {
    this.#listeners.delete(listener);
  }

  destroy() {
    super.destroy();
    this.child.removeConnectivityStateListener(this.#follow);
    this.#end();
    this.#policy.forget(this);
  }

  #follow = (_, before, now, keepaliveMs, message) => {
    if (now === states.READY) return this.#begin();
    if (this.#watch !== undefined || now === states.TRANSIENT_FAILURE) this.isNew = false;
    this.#end();
    this.#tell(before, now, keepaliveMs, message);
    this.#policy.judge(); // after the channel has begun to connect again
  };

  #begin() {
    this.#watch = new HealthWatch(this.child, this.#policy.service, (serves) => {
      this.serves = serves;
      this.isNew = false;
      this.#policy.judge();
      if (this.#isReported) return;
      this.#isReported = true;
      this.#tell(states.CONNECTING, states.READY);
    });
  }

  #end() {
    this.#watch?.close();
    this.#watch = undefined;
    this.serves = this.#isReported = false;
  }

  #tell(before, now, keepaliveMs = 0, message = undefined) {
    for (const listener of [...this.#listeners]) listener(this, before, now, keepaliveMs, message);
  }
}

class Serving {
  service;
  #balancer;
  #servers = new Set(); // Watched

  constructor(channel) {
    const createSubchannel = (address, options) => {
      const server = new Watched(channel.createSubchannel(address, options), this);
      this.#servers.add(server);
      return server;
    };
    const helper = experimental.createChildChannelControlHelper(channel, { createSubchannel });
    this.#balancer = new experimental.ChildLoadBalancerHandler(helper);
  }

  // Tells each server whether it gets calls. Those that do now are told first: between, calls would find none.
  judge() {
    const servers = [...this.#servers];
    const getsAny = !servers.some(({ serves, isNew }) => serves || isNew);
    const getsCalls = ({ serves }) => serves || getsAny;
    for (const server of servers.filter(getsCalls)) server.setHealthy(true);
    for (const server of servers.filter((one) => !getsCalls(one))) server.setHealthy(false);
  }

  forget(server) {
    this.#servers.delete(server);
  }

  updateAddressList(endpoints, { service }, options, note) {
    this.service = service;
    const config = experimental.parseLoadBalancingConfig({ round_robin: {} });
    return this.#balancer.updateAddressList(endpoints, config, options, note);
  }

  exitIdle() {
    this.#balancer.exitIdle();
  }

  resetBackoff() {
    this.#balancer.resetBackoff();
  }

  destroy() {
    this.#balancer.destroy();
  }

  getTypeName() {
    return NAME;
  }
}

experimental.registerLoadBalancerType(NAME, Serving, Config);
