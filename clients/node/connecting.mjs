// A limit on the time to connect, up to the server's first words of HTTP/2. @grpc/grpc-js has none, and no place for one
// (github.com/grpc/grpc-node/issues/2785), so this reaches into a channel of the version that package.json pins.

const CONNECT_MS = 6_000; // as long as it takes to miss a dead server

// To be called before the channel's first call; its connections must be its own. Gives what ends the attempts that still
// run, because gRPC would leave those of a closed channel to the system, for up to two minutes, and the process with
// them. A connection through a proxy has no limit, and so has a channel of a version that is made in another way.
export function limitConnecting(channel) {
  const [running, limited] = [new Set(), new WeakSet()];
  const pool = channel.internalChannel?.subchannelPool;
  const getOrCreate = pool?.getOrCreateSubchannel;
  if (getOrCreate === undefined) return () => {};
  pool.getOrCreateSubchannel = (...its) => {
    const subchannel = getOrCreate.apply(pool, its);
    if (!limited.has(subchannel)) limit(subchannel.connector, running);
    limited.add(subchannel);
    return subchannel;
  };
  return () => running.forEach((attempt) => attempt.abort());
}

// Node ends the socket of an address by the signal that is given with it.
function limit(connector, running) {
  const { connect } = connector;
  connector.connect = async (address, ...its) => {
    const attempt = new AbortController();
    const timer = setTimeout(() => attempt.abort(), CONNECT_MS).unref();
    running.add(attempt);
    try {
      const connecting = Object.create(connector); // else the end of this attempt would end the next one too
      return await connect.call(connecting, { ...address, signal: attempt.signal }, ...its);
    } catch (error) {
      throw attempt.signal.aborted ? new Error(`no connection within ${CONNECT_MS / 1000} s`) : error;
    } finally {
      clearTimeout(timer);
      running.delete(attempt);
    }
  };
}
