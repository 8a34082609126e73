// The plain door on Bun: its own WebSocket server and its own topics (Bun docs, "Pub/Sub").
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const url = new URL(request.url);
    const topic = url.pathname.replace("/topics/", "");
    const subscribes = url.searchParams.get("echo") !== "false";
    if (server.upgrade(request, { data: { topic, subscribes } })) return;
    return new Response("a WebSocket is wanted", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    // By default Bun drops what a connection over 1 MiB behind would get; a run counts that as loss.
    backpressureLimit: 64 << 20,
    open(socket) {
      if (socket.data.subscribes) socket.subscribe(socket.data.topic);
    },
    message(socket, message) {
      server.publish(socket.data.topic, message);
    },
  },
});
console.log(`listening http://127.0.0.1:${server.port}`);
