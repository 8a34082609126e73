// The plain door on uWebSockets.js: its own topics (README, "pub/sub"), no compression.
const { platform, arch, versions } = process;
// The native code itself: the package's main would fall back to a slow imitation in silence.
const native = `uws_${platform}_${arch}_${versions.modules}.node`;
const uws = require(`@trufflesuite/uws-js-unofficial/binaries/${native}`);

const app = uws.App();
app.ws("/topics/:topic", {
  compression: uws.DISABLED,
  maxPayloadLength: 16 << 20,
  // By default it drops what a connection over 64 KiB behind would get; a run counts that as loss.
  maxBackpressure: 64 << 20,
  idleTimeout: 120,
  upgrade(response, request, context) {
    const data = { topic: request.getParameter(0), subscribes: request.getQuery("echo") !== "false" };
    const header = (name) => request.getHeader(`sec-websocket-${name}`);
    response.upgrade(data, header("key"), header("protocol"), header("extensions"), context);
  },
  open(socket) {
    if (socket.subscribes) socket.subscribe(socket.topic);
  },
  message(socket, message, isBinary) {
    app.publish(socket.topic, message, isBinary);
  },
});
app.listen("127.0.0.1", 0, (socket) => {
  console.log(`listening http://127.0.0.1:${uws.us_socket_local_port(socket)}`);
});
